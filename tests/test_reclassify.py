"""`reclassify`: stored facts under another snapshot, what changed, and all of it or nothing."""

import json
from dataclasses import replace
from types import MappingProxyType

import pytest
from hierarchies import intermediate, issue, key, leaf, root, row, snapshot
from storing import certificate, contents, endpoint, measured, new_scan, store

from mxcensus import classification
from mxcensus.cli import main
from scanner.policy import RULES_VERSION
from scanner.trust import HEADER
from storage import classifications, reader
from storage.database import open_database

TOP = root("Root/DigiCert Inc")
MIDDLE = intermediate(TOP, "Middle/DigiCert Inc")
LEAF = leaf(MIDDLE)
ALONE = issue("Alone", private_key=key(7), days=3650)


async def census(database, *, certificates=(LEAF, MIDDLE, TOP)):
    """A scan of one endpoint with a whole list, and another with a certificate of its own."""
    scan_id = await new_scan(database)
    ders = tuple(item.certificate.der for item in certificates)
    records = [item.certificate for item in (*certificates, ALONE)]
    alone = measured(endpoint(2), (ALONE.certificate.der,))
    await store(database, scan_id, *records, measured(endpoint(1), ders), alone)
    return scan_id


def stored(database, scan_id):
    return {row["sha256"]: row for row in reader.certificates(database, scan_id)}


async def test_another_snapshot_changes_what_it_must_and_says_so(database):
    scan_id = await census(database)
    classification.classify_scan(database, scan_id, snapshot())
    assert stored(database, scan_id)[LEAF.sha256]["hierarchy"] == "private"
    under = replace(snapshot(row(TOP, mozilla="server", chrome="server")), id="newer")
    changed = classification.classify_scan(database, scan_id, under)
    assert stored(database, scan_id)[LEAF.sha256]["programs"] == ["chrome", "mozilla"]
    assert (changed.certificates, changed.before, changed.after) == (
        4,
        (RULES_VERSION, "test"),
        (RULES_VERSION, "newer"),
    )
    assert dict(changed.transitions["hierarchy"]) == {
        ("private", "public-chrome"): 2,
        ("self-signed", "public-chrome"): 1,
        ("self-signed", "self-signed"): 1,
    }
    assert changed.changes("programs") == [(("", "chrome+mozilla"), 3)]
    assert changed.changes("exposure") == [(("not-affected", "2027-03"), 1)]
    assert changed.changes("eku_class") == changed.changes("effective_eku_class") == []
    assert dict(changed.transitions["chain_complete"]) == {("no", "yes"): 1, ("no", "no"): 1}
    info = database.scan_info(scan_id)
    assert (info.trust_id, info.settings["trust"]["as_of"], info.settings["port"]) == ("newer", "2026-11-24", 25)


async def test_the_first_pass_comes_from_nothing(database):
    scan_id = await census(database)
    changed = classification.classify_scan(database, scan_id, snapshot())
    assert set(changed.transitions["hierarchy"]) == {(None, "private"), (None, "self-signed")}
    assert "hierarchy: unclassified -> private: 2" in "\n".join(classification.lines(changed))
    again = classification.classify_scan(database, scan_id, snapshot())
    assert list(classification.lines(again))[2:] == ["  nothing changed"]


async def test_a_pass_that_breaks_leaves_the_old_one_whole(database, monkeypatch):
    scan_id = await census(database)
    classification.classify_scan(database, scan_id, snapshot())
    before = contents(database)
    other = snapshot(row(TOP, mozilla="server"))
    monkeypatch.setattr(classifications, "BATCH", 1)

    calls = []

    def breaks_while_writing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return upsert(*arguments)

    upsert = classifications.upsert
    monkeypatch.setattr(classifications, "upsert", breaks_while_writing)
    with pytest.raises(KeyboardInterrupt):
        classification.classify_scan(database, scan_id, other)
    assert len(calls) == 3
    assert contents(database) == before
    monkeypatch.setattr(classifications, "upsert", upsert)
    monkeypatch.setattr(classification.Classifier, "chain_complete", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        classification.classify_scan(database, scan_id, other)
    assert contents(database) == before


async def test_a_repeated_transaction_writes_all_again(database, monkeypatch):
    scan_id = await census(database)
    write = database.write

    def twice(function):
        write(function)
        return write(function)

    monkeypatch.setattr(database, "write", twice)
    classification.classify_scan(database, scan_id, snapshot(row(TOP, mozilla="server")))
    found = stored(database, scan_id)
    assert found[LEAF.sha256]["hierarchy"] == "public-not-chrome"
    assert found[ALONE.sha256]["hierarchy"] == "self-signed"


async def test_what_is_no_longer_captured_is_no_longer_classified(database):
    scan_id = await census(database)
    gone = classification.Classifier(snapshot()).classify(certificate(b"gone"))
    classifications.replace_classifications(
        database, scan_id, classifications.Basis("0", None, MappingProxyType({})), [gone], [("gone", True)]
    )
    classification.classify_scan(database, scan_id, snapshot())
    assert gone.sha256 not in {values[1] for values in contents(database)["classification"]}
    assert "gone" not in {values[1] for values in contents(database)["list_classification"]}


# ----------------------------------------------------------------------------------------------- the command


@pytest.fixture
async def url(tmp_path):
    """A database with two scans of the same servers."""
    url = f"sqlite:///{tmp_path / 'census.db'}"
    database = open_database(url)
    for _ in range(2):
        scan_id = await census(database)
        classification.classify_scan(database, scan_id, snapshot())
    database.close()
    return url


@pytest.fixture
def trust(tmp_path):
    directory = tmp_path / "trust"
    directory.mkdir()
    line = f"{TOP.sha256},CN=Root,2026-01-01,2035-12-30,server,server,,,"
    (directory / "roots.csv").write_text(f"{','.join(HEADER)}\n{line}\n")
    (directory / "roots.pem").write_text(TOP.pem)
    (directory / "snapshot.toml").write_text('id = "mine"\nas_of = 2026-11-25\n')
    return directory


def test_all_scans_or_one(url, trust, capsys):
    assert main(["reclassify", "--db", url, "--trust", str(trust), "--scan", "2", "--json"]) == 0
    [only] = json.loads(capsys.readouterr().out)["scans"]
    assert (only["scan"], only["certificates"], only["before"]["trust"], only["after"]["trust"]) == (
        2, 4, "test", "mine"
    )  # fmt: skip
    assert {"from": "private", "to": "public-chrome", "count": 2} in only["transitions"]["hierarchy"]
    assert main(["reclassify", "--db", url, "--trust", str(trust)]) == 0
    out = capsys.readouterr().out
    assert "scan 1: 4 certificates" in out
    assert "  hierarchy: private -> public-chrome: 2" in out
    assert out.index("scan 2: 4 certificates") < out.index("nothing changed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scan", "9"], "there is no scan 9"),
        (["--scan", "0"], "not a number of at least 1"),
        (["--trust", "nowhere"], "nowhere: not a trust snapshot"),
    ],
)
def test_what_cannot_be_is_one_line(url, arguments, message, capsys):
    try:
        status = main(["reclassify", "--db", url, *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_without_a_database_none_is_made(tmp_path, capsys):
    assert main(["reclassify", "--db", f"sqlite:///{tmp_path / 'none.db'}"]) == 2
    assert "no such database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
