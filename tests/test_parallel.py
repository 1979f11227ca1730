"""Work shared by copies of the process: the same results in the same order, and no copy left behind."""

import json
import multiprocessing
import os

import pytest
from hierarchies import CLIENT, SERVER, issue, key, leaf, root

from mxcensus import parallel
from mxcensus.cli import main
from mxcensus.commands import classify
from mxcensus.parallel import mapped

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")  # pytest has threads


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 3)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 20, 61])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(count, workers):
    offset = 7
    assert list(mapped(lambda item: item + offset, range(count), workers)) == [item + 7 for item in range(count)]


def test_copies_do_the_work_and_end():
    found = set(mapped(lambda _: os.getpid(), range(30), 3))
    assert len(found) == 3
    assert os.getpid() not in found
    assert multiprocessing.active_children() == []


def test_whoever_stops_early_leaves_no_copy():
    results = mapped(lambda item: item, range(10_000), 2)
    assert next(results) == 0
    results.close()
    assert multiprocessing.active_children() == []


def test_a_fault_in_a_copy_is_not_lost(capfd):
    with pytest.raises(RuntimeError, match="ended before its work"):
        list(mapped(lambda item: 1 // (item - 8), range(30), 2))
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert multiprocessing.active_children() == []


# -------------------------------------------------------------------------------------------- as classify does


@pytest.fixture
def file(tmp_path):
    top = root("Top/Nobody")
    leaves = [leaf(top, f"mx{number}.example", 3 + number % 3) for number in range(8)]
    (tmp_path / "all.pem").write_text(
        "".join(item.pem for item in (*leaves, top)) + "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
    )
    return tmp_path / "all.pem"


@pytest.mark.parametrize("held", [20_000, 4])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_classify_says_the_same_by_itself_and_in_copies(file, held, form, monkeypatch, capsys):
    def said(few, processors):
        monkeypatch.setattr(classify, "FEW", few)
        monkeypatch.setattr(classify, "processors", lambda: processors)
        assert main(["classify", *form, str(file)]) == 0
        return capsys.readouterr()

    alone = said(500, 1)
    monkeypatch.setattr(classify, "HELD", held)
    assert said(1, 3) == alone
    assert len(alone.out.splitlines()) == 9
    assert alone.err.count("skipped") == 1


def test_json_has_the_cohorts_and_what_else_is_known(tmp_path, capsys):
    (tmp_path / "x.pem").write_text(issue("mx", private_key=key(3), eku=(SERVER, CLIENT), days=500).pem)
    assert main(["classify", "--json", str(tmp_path / "x.pem")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cohorts"]["chrome-subscriber-2027-03-15"] == {"issued": "before", "expires": "after"}
    assert said["cohorts"]["mozilla-separation-2028-12-31"] == {"issued": "before", "expires": "before"}
    assert "chrome-subscriber-2026-06-15" not in said["cohorts"], "it was superseded"
    assert (said["exposure"], said["issued_since"], said["expires_since"]) == (
        "not-affected",
        "earlier",
        "2027-03-15",
    )
