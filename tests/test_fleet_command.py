"""`fleet worker` of several processes: each gets the same words, and a log of its own."""

import sys

import pytest

pytest.importorskip("procrastinate")
from mxcensus.cli import main
from mxcensus.fleet import processes


@pytest.mark.parametrize(("words", "own"), [([], [[], []]), (["--connection-log", "a"], [["a.0"], ["a.1"]])])
def test_each_process_has_its_own_log(monkeypatch, words, own):
    ran = []
    monkeypatch.setattr(processes, "run_all", lambda commands: ran.extend(commands) or 7)
    line = ["fleet", "worker", "--processes", "2", *words]
    monkeypatch.setattr(sys, "argv", ["mxcensus", *line])
    assert main(line) == 7
    options = [["--connection-log", *one] if one else [] for one in own]
    assert ran == [[*line, "--processes", "1", *option] for option in options]
