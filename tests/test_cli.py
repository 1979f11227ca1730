"""How a command's end becomes an exit status: one line for what a person can act on, a traceback for our faults."""

import pytest

from mxcensus import cli
from mxcensus.commands import demo
from storage.errors import DiskFull


@pytest.fixture
def ending(monkeypatch):
    """Let `mxcensus demo` end with an exception."""

    def ends_with(error):
        def run(_):
            raise error

        monkeypatch.setattr(demo, "run", run)
        return cli.main(["demo"])

    return ends_with


@pytest.mark.parametrize(
    "error",
    [
        DiskFull("no room left"),
        ExceptionGroup("tasks", [DiskFull("no room left"), DiskFull("no room left")]),
        ExceptionGroup("tasks", [ExceptionGroup("more", [DiskFull("no room left")])]),
    ],
)
def test_a_database_that_fails_for_good_is_one_line_and_status_1(ending, capsys, error):
    assert ending(error) == 1
    assert capsys.readouterr().err == "mxcensus: no room left\n"


def test_interrupted_is_130_and_a_missing_file_2(ending, capsys):
    assert ending(KeyboardInterrupt()) == 130
    assert ending(FileNotFoundError(2, "No such file or directory", "x.txt")) == 2
    assert "x.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("ours"), ExceptionGroup("tasks", [KeyError("ours")]), KeyError("ours")]
)
def test_our_own_faults_are_not_hidden(ending, error):
    with pytest.raises(type(error)):
        ending(error)
