"""Trust snapshots: the bundled one, and one clear line for each way in which one can be wrong."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hierarchies import intermediate, leaf, root, row, snapshot

import scanner
from scanner.classify import Classifier
from scanner.records import Hierarchy, Program
from scanner.trust import HEADER, BadSnapshot, Purpose, bundled, load

BUNDLED = Path(scanner.__file__).parent / "data" / "trust"
TOP = root("Root/Acme Trust")
SHA = TOP.sha256
NONSENSE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
GOOD = f"{SHA},CN=Root,2026-01-01,2035-12-30"


def write(directory, *, header=None, line=None, pem=None, toml=None):
    """A snapshot of one root, valid by default."""
    header = ",".join(HEADER) if header is None else header
    line = (
        f"{SHA},CN=Root,2026-01-01,2035-12-30,server;email,server,,unknown,2026-10-01T00:00:00Z"
        if line is None
        else line
    )
    (directory / "roots.csv").write_text(f"{header}\n{line}\n")
    (directory / "roots.pem").write_text(TOP.pem if pem is None else pem)
    (directory / "snapshot.toml").write_text(toml or 'id = "one"\nas_of = "2026-11-24"\n[sources]\nmozilla = "x"\n')
    return directory


def test_the_bundled_snapshot():
    trust = bundled()
    assert len(trust.roots) == 343
    assert len(trust.chrome_anchors) == 15
    assert trust.chrome_anchors == {certificate.sha256 for certificate in trust.intermediates}
    assert trust.as_of == date(2026, 11, 24)
    assert set(trust.sources) == {"mozilla", "chrome", "apple", "microsoft"}
    only_unknown = [r for r in trust.roots.values() if set().union(*r.purposes.values()) == {Purpose.UNKNOWN}]
    assert len(only_unknown) == 224
    assert all(r.owner for r in trust.roots.values())
    assert Hierarchy.DISTRUSTED not in trust.measurable, "no row without a program"
    assert Hierarchy.PUBLIC_OTHER_PURPOSE not in trust.measurable
    assert {Hierarchy.PUBLIC_CHROME, Hierarchy.PUBLIC_NOT_CHROME, Hierarchy.PRIVATE} <= trust.measurable


def test_every_bundled_root_is_its_own_public_path():
    trust = bundled()
    classifier = Classifier(trust)
    for bundled_root in trust.roots.values():
        found = classifier.classify(bundled_root.certificate)
        assert found.hierarchy.startswith("public-")


def test_every_chrome_anchor_is_public_chrome():
    trust = bundled()
    classifier = Classifier(trust)
    for certificate in trust.intermediates:
        assert classifier.classify(certificate).hierarchy is Hierarchy.PUBLIC_CHROME


def test_a_row_is_read_whole(tmp_path):
    found = load(write(tmp_path)).roots[SHA]
    assert found.purposes[Program.MOZILLA] == {Purpose.SERVER, Purpose.EMAIL}
    assert found.purposes[Program.APPLE] == frozenset()
    assert found.owner == "Acme Trust"
    assert found.chrome_sct_not_after == datetime(2026, 10, 1, tzinfo=UTC)


def test_optional_columns(tmp_path):
    header = ",".join([*HEADER, "mozilla_server_distrust_after", "owner", "chrome_removed"])
    line = f"{SHA},CN=Root,2026-01-01,2035-12-30,server,,,,,2026-06-30,Acme Ltd,2026-03-01"
    found = load(write(tmp_path, header=header, line=line)).roots[SHA]
    assert found.owner == "Acme Ltd"
    assert found.mozilla_server_distrust_after == datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)
    assert found.chrome_removed == date(2026, 3, 1)


def test_other_certificates_join_as_intermediates_and_not_as_anchors(tmp_path):
    middle, other = intermediate(TOP), root("Other", 6)
    trust = load(write(tmp_path, pem=TOP.pem + middle.pem + other.pem))
    assert {certificate.sha256 for certificate in trust.intermediates} == {middle.sha256, other.sha256}
    classifier = Classifier(trust)
    assert classifier.classify(leaf(middle).certificate).hierarchy is Hierarchy.PUBLIC_CHROME
    assert classifier.classify(leaf(other).certificate).hierarchy is Hierarchy.PRIVATE


def test_what_a_snapshot_can_show():
    assert Hierarchy.DISTRUSTED in snapshot(row(TOP)).measurable
    assert Hierarchy.PUBLIC_OTHER_PURPOSE in snapshot(row(TOP, mozilla="email")).measurable
    assert Hierarchy.PUBLIC_CHROME not in snapshot(row(TOP, mozilla="server")).measurable
    assert Hierarchy.PUBLIC_NOT_CHROME not in snapshot(row(TOP, chrome="server")).measurable
    assert Hierarchy.PUBLIC_PURPOSE_UNKNOWN not in snapshot(row(TOP, chrome="server")).measurable
    assert {"private", "self-signed", "unresolved", "undetermined", "unparsable"} <= snapshot().measurable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": "sha256,name"}, "roots.csv: line 1: expected the header sha256,subject,"),
        ({"header": ",".join([*HEADER, "android"])}, "roots.csv: line 1: expected the header"),
        (
            {"line": f"{GOOD},servers,,,,"},
            "line 2: mozilla: unknown purpose 'servers'; known are server,",
        ),
        (
            {"line": f"{'0' * 64},CN=Root,2026-01-01,2035-12-30,server,,,,"},
            "roots.csv: line 2: no certificate with sha256",
        ),
        (
            {"line": "abc,CN=Root,2026-01-01,2035-12-30,server,,,,"},
            "line 2: sha256 is 64 lower-case hex",
        ),
        ({"line": f"{GOOD},server,,,,\n{GOOD},server,,,,"}, "roots.csv: line 3: sha256"),
        ({"line": f"{GOOD},server"}, "roots.csv: line 2: expected 9 fields"),
        ({"line": f"{SHA},CN=Root,01.01.2026,2035-12-30,server,,,,"}, "roots.csv: line 2: not_before: not a date"),
        ({"line": f"{SHA},CN=Root,2025-01-01,2035-12-30,server,,,,"}, "the certificate says 2026-01-01"),
        ({"line": f"{GOOD},server,server,,,soon"}, "roots.csv: line 2: chrome_sct_not_after: not a time"),
        ({"pem": f"# sha256={'1' * 64}\n{TOP.pem}"}, "roots.pem: line 2: said to be sha256 1111"),
        ({"pem": TOP.pem[:300]}, "roots.pem: line 1: the certificate has no end"),
        ({"pem": TOP.pem.replace("MII", "M!I", 1)}, "roots.pem: line 1: not base64"),
        (
            {"pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
            "roots.pem: line 1: not a certificate",
        ),
        ({"toml": "id = \n"}, "snapshot.toml: Invalid value (at line 1"),
        ({"toml": 'as_of = "2026-11-24"'}, "snapshot.toml: id is missing"),
        ({"toml": 'id = "x"\nas_of = "yesterday"'}, "snapshot.toml: as_of: not a date"),
        (
            {"toml": 'id = "x"\nas_of = 2026-11-24\nchrome_anchors = "none.pem"'},
            "chrome_anchors: no file 'none.pem'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_one_clear_line(tmp_path, changes, message):
    with pytest.raises(BadSnapshot) as caught:
        load(write(tmp_path, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["roots.csv", "snapshot.toml"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(BadSnapshot, match=name):
        load(tmp_path)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(BadSnapshot, match=r"nowhere: not a trust snapshot: .*No such file"):
        load(tmp_path / "nowhere")


def test_a_certificate_that_was_changed_is_not_found_under_its_old_hash(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "trust")
    pem = tmp_path / "trust" / "roots.pem"
    blocks = pem.read_text().split("-----END CERTIFICATE-----", 1)
    pem.write_text(TOP.pem + blocks[1])
    with pytest.raises(BadSnapshot, match=r"roots.csv: line \d+: no certificate with sha256"):
        load(tmp_path / "trust")
