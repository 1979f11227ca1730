"""`trust show` and `trust update`: reports in, a snapshot out, whole or not at all."""

import csv
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import ccadb_reports as reports
import pytest
from hierarchies import certificates, intermediate, leaf, root

from mxcensus import snapshots, trust_update
from mxcensus.cli import build_parser, main
from mxcensus.commands import scan
from mxcensus.trust_update import Sources
from scanner import ccadb, chrome_store
from scanner.certificates import parse
from scanner.classify import Classifier
from scanner.inputs import read_certificates
from scanner.records import Hierarchy, Program
from scanner.trust import BadSnapshot, Purpose, bundled, load

NOW = datetime(2026, 11, 25, 10, 15, 30, tzinfo=UTC)
WEB, MAIL, LEFT, LATE = (
    root(f"{name}/{name} Ltd", number) for number, name in enumerate(("Web", "Mail", "Left", "Late"), 11)
)
MIDDLE = intermediate(WEB, "Middle", 21)
ANCHOR = intermediate(LEFT, "Anchor", 22)
CODE = intermediate(WEB, "Code", 23)
OLD = intermediate(WEB, "Old", 24, days=30)
ROOTS, CAS = certificates(WEB, MAIL, LEFT, LATE), certificates(MIDDLE, ANCHOR, CODE, OLD)
ALL = {"Mozilla Status": "Included", "Mozilla Trust Bits": "Websites;Email", "Apple Status": "Included"} | {
    "Apple Trust Bits": "TLS Server;TLS Client;Email;Time Stamping",
    "Microsoft Status": "Included",
    "Microsoft EKUs For DTBs": "Server Authentication;Client Authentication;Code Signing",
    "Google Chrome Status": "Included",
}
LIMIT = int(datetime(2026, 9, 30, tzinfo=UTC).timestamp())


def pages():
    """The four kinds of reports by path, as a server would give them."""
    web, mail, left, late = ROOTS
    listed = [
        (web, "Web Trust", ALL),
        (mail, "Mail Trust", {"Mozilla Status": "Included", "Mozilla Trust Bits": "Email"}),
        (left, "Left Trust", {"Mozilla Status": "Removed", "Microsoft Status": "Disabled"}),
        (late, "Late Trust", {"Microsoft Status": "NotBefore", "Microsoft EKUs For DTBs": "Server Authentication"}),
    ]
    kinds = [(item, "Root", True) for item in ROOTS] + [(item, "Intermediate", item is not CAS[2]) for item in CAS]
    return {
        "/ccadb/included": reports.included(*listed),
        "/ccadb/records": reports.records(*kinds),
        "/ccadb/pems?year=2025": "",
        "/ccadb/pems?year=2026": reports.pems(*ROOTS, *CAS),
        "/root_store.textproto": reports.root_store(
            (web, f"constraints {{ sct_not_after_sec: {LIMIT} }}"),
            additional=[(CAS[1], "tls_trust_anchor: true"), (CAS[0], "eutl: true")],
        ),
    }


def sources(url):
    return Sources(
        f"{url}/ccadb/included",
        f"{url}/ccadb/records",
        (f"{url}/ccadb/pems?year=2025", f"{url}/ccadb/pems?year=2026"),
        f"{url}/root_store.textproto",
    )


def options(url):
    named = sources(url)
    some = [part for where in named.pems for part in ("--pems", where)]
    return ["--included", named.included, "--records", named.records, *some, "--chrome", named.chrome]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A configuration folder of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "mxcensus"


@pytest.fixture
def updated(home):
    with reports.serving(pages()) as url:
        return trust_update.update(sources(url), bundled(), NOW, allow_shrink=True)


def test_a_snapshot_from_a_server(updated, home):
    assert updated.directory == home / "trust" / "ccadb-2026-11-25T101530Z"
    found = load(updated.directory)
    web, mail, left, late = (found.roots[item.sha256] for item in ROOTS)
    assert web.purposes == {
        Program.MOZILLA: {Purpose.SERVER, Purpose.EMAIL},
        Program.CHROME: {Purpose.SERVER},
        Program.APPLE: {Purpose.SERVER, Purpose.CLIENT, Purpose.EMAIL, Purpose.OTHER},
        Program.MICROSOFT: {Purpose.SERVER, Purpose.CLIENT, Purpose.OTHER},
    }
    assert (web.owner, web.chrome_sct_not_after) == ("Web Trust", datetime(2026, 9, 30, tzinfo=UTC))
    assert mail.purposes[Program.MOZILLA] == {Purpose.EMAIL}
    assert not left.trusted
    assert late.purposes[Program.MICROSOFT] == {Purpose.UNKNOWN}
    assert found.chrome_anchors == {CAS[1].sha256}
    assert {item.sha256 for item in found.intermediates} == {CAS[0].sha256, CAS[1].sha256}  # TLS, and not expired
    assert (found.id, found.as_of) == ("ccadb-2026-11-25T101530Z", NOW.date())
    assert found.sources["mozilla"].endswith("/ccadb/included, read 2026-11-25")


def test_what_was_bundled_and_is_not_listed_any_more_stays_as_distrusted(updated):
    found = load(updated.directory)
    assert len(found.roots) == 343 + 4
    gone = [found.roots[sha256] for sha256, was in bundled().roots.items() if was.purposes[Program.CHROME]]
    assert {root.chrome_removed for root in gone} == {NOW.date()}
    one = Classifier(found).classify(gone[0].certificate)
    assert (one.hierarchy, one.chrome_absence) == (Hierarchy.DISTRUSTED, "removed")
    assert len(updated.difference.removed) == 343 + 15
    assert (
        f"O=Web Ltd,CN=Web [{WEB.sha256[:16]}]: mozilla server;email, chrome server" in updated.difference.added[3]
    )


def test_the_new_snapshot_is_in_use_and_a_newer_one_after_it(updated, home):
    assert snapshots.in_use().id == updated.snapshot.id
    assert Classifier(snapshots.in_use()).classify(leaf(MIDDLE).certificate).hierarchy is Hierarchy.PUBLIC_CHROME
    changed = pages() | {"/root_store.textproto": reports.root_store((ROOTS[0], ""), (ROOTS[1], ""))}
    with reports.serving(changed) as url:
        later = NOW.replace(hour=11)
        again = trust_update.update(sources(url), snapshots.in_use(), later, allow_shrink=True)
    assert snapshots.in_use().id == again.snapshot.id == "ccadb-2026-11-25T111530Z"
    assert updated.directory.is_dir(), "older ones stay"
    assert again.difference.added == ()
    assert again.difference.removed == ("CN=Anchor: chrome anchor",)
    assert again.difference.changed == (
        f"O=Mail Ltd,CN=Mail [{MAIL.sha256[:16]}]: chrome none -> server",
        f"O=Web Ltd,CN=Web [{WEB.sha256[:16]}]: chrome SCTNotAfter 2026-09-30T00:00:00Z -> none",
    )


def test_scan_takes_it_without_being_told(updated, home):
    arguments = build_parser().parse_args(["scan", "example.org", "--resolver", "192.0.2.1"])
    assert scan.make_plan(arguments).trust.id == updated.snapshot.id


def test_leftovers_of_a_killed_update_are_not_in_use(updated, home):
    (home / "trust" / ".zzz.part").mkdir()
    assert snapshots.own() == updated.directory


def cut(text, part):
    return text[: int(len(text) * part)]


HEADER = "/ccadb/included"
FAULTS = {
    "header": (
        HEADER,
        lambda text: text.replace("Mozilla Status", "Firefox Status"),
        "expected a column 'Mozilla Status'",
    ),
    "status": (
        HEADER,
        lambda text: text.replace("Disabled", "Paused"),
        "unknown status 'Paused'; known are Blocked,",
    ),
    "cut in a row": (HEADER, lambda text: cut(text, 0.9), "truncated"),
    "cut download": (HEADER, lambda text: (text, len(text) + 100), "/ccadb/included: "),
    "nothing": (HEADER, lambda _: reports.included(), "no root in it"),
    "gone": (HEADER, lambda _: 404, "/ccadb/included: the server answered 404 Not Found"),
    "records": (
        "/ccadb/records",
        lambda text: text.replace("TLS Capable", "TLS"),
        "expected a column 'TLS Capable'",
    ),
    "a wrong hash": (
        "/ccadb/pems?year=2026",
        lambda _: reports.pems(*ROOTS, *CAS, under={ROOTS[0].sha256: "0" * 64}),
        f"said to be the certificate with sha256 {'0' * 64}, is {ROOTS[0].sha256}",
    ),
    "a certificate changed": ("/ccadb/pems?year=2026", lambda text: text.replace("MII", "MIJ", 1), "said to be"),
    "no PEM": ("/ccadb/pems?year=2026", lambda text: text.replace("-----BEGIN", "-----"), "not a PEM certificate"),
    "a missing certificate": (
        "/ccadb/pems?year=2026",
        lambda _: reports.pems(*ROOTS[1:], *CAS),
        f"no certificate with sha256 {ROOTS[0].sha256} (Web Trust) in the PEM reports",
    ),
    "cut store": (
        "/root_store.textproto",
        lambda text: cut(text, 0.8),
        "not a root store that is known here: line",
    ),
    "unknown field": (
        "/root_store.textproto",
        lambda text: text.replace("eutl: true", "limits { until: 5 }"),
        'has no field named "limits"',
    ),
    "empty store": ("/root_store.textproto", lambda _: "version_major: 1\n", "no trust_anchors in it"),
    "bad digest": (
        "/root_store.textproto",
        lambda text: text.replace(ROOTS[0].sha256, "ab"),
        "sha256_hex is 64 hex",
    ),
    "not text": ("/root_store.textproto", lambda _: "a page about something\n", "not a root store"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_loses_nothing(fault, updated, home, capsys):
    path, change, message = FAULTS[fault]
    before = snapshot_files(home)
    with reports.serving(pages() | {path: change(pages()[path])}) as url:
        assert main(["trust", "update", "--allow-shrink", *options(url)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert message in line
    assert snapshot_files(home) == before


def snapshot_files(home):
    return {path: path.read_bytes() for path in sorted((home / "trust").rglob("*")) if path.is_file()}


def test_what_cannot_be_read_back_does_not_get_its_place(home, monkeypatch):
    files = trust_update.snapshot.files
    monkeypatch.setattr(trust_update.snapshot, "files", lambda of: files(of) | {"roots.pem": ""})
    with reports.serving(pages()) as url, pytest.raises(BadSnapshot, match="no certificate with sha256"):
        trust_update.update(sources(url), bundled(), NOW, allow_shrink=True)
    assert list((home / "trust").iterdir()) == []


def test_a_report_that_lost_most_roots_is_refused(home, capsys):
    with reports.serving(pages()) as url:
        assert main(["trust", "update", *options(url)]) == 2
    assert "mozilla would fall from 117 roots to 2: a truncated report?" in capsys.readouterr().err
    assert not (home / "trust").exists()


def test_a_server_that_is_not_there(home, capsys):
    with reports.serving({}) as url:
        pass
    assert main(["trust", "update", *options(url)]) == 2
    assert f"mxcensus: {url}/root_store.textproto: " in capsys.readouterr().err


def test_from_files_into_a_directory_of_one_s_own(tmp_path, home, capsys):
    for path, text in pages().items():
        (tmp_path / path.rpartition("/")[2]).write_text(text)
    named = {
        "included": "included",
        "records": "records",
        "pems": "pems?year=2026",
        "chrome": "root_store.textproto",
    }
    given = [word for option, name in named.items() for word in (f"--{option}", str(tmp_path / name))]
    target = tmp_path / "mine"
    command = ["trust", "update", "--allow-shrink", "--json", *given, "-o", str(target)]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["before"], said["snapshot"]["where"]) == ("packages-2026-11-24", str(target))
    assert said["snapshot"]["programs"]["mozilla"]["email"] == 2
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["trust", "show", "--trust", str(target)]) == 0
    out = capsys.readouterr().out
    assert "347 roots: 1 of unknown purpose only, 344 in no program; 1 intermediates, 1 anchors of Chrome" in out
    assert "chrome SCTNotAfter: 2026-09-30 1" in out
    assert main(["trust", "update", *given[:-1], str(tmp_path / "none")]) == 2
    assert "none: No such file or directory" in capsys.readouterr().err


def test_show_json_of_the_bundled_one(home, capsys):
    assert main(["trust", "show", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["programs"]["chrome"]["server"] == 100
    assert (said["roots"], said["only_unknown"], said["chrome_anchors"]) == (343, 224, 15)
    assert said["where"] == "comes with the program"


@pytest.mark.parametrize(
    ("constraints", "limit"),
    [
        ("", None),
        (f"constraints {{ sct_not_after_sec: {LIMIT} }}", LIMIT),
        (f"constraints {{ sct_not_after_sec: {LIMIT} }} constraints {{ sct_all_after_sec: 9 }}", None),
        (f"constraints {{ sct_not_after_sec: {LIMIT} }} constraints {{ sct_not_after_sec: 5 }}", LIMIT),
        (f'constraints {{ max_version_exclusive: "153" }} constraints {{ sct_not_after_sec: {LIMIT} }}', LIMIT),
        (f"constraints {{ sct_not_after_sec: {LIMIT} validity_starts_not_after_sec: 7 }}", 7),
        ('constraints { max_version_exclusive: "120" }', "gone"),
    ],
)
def test_chrome_s_alternatives(constraints, limit):
    store = chrome_store.read(reports.root_store((ROOTS[0], constraints), (ROOTS[1], "")), "x")
    found = store.roots.get(ROOTS[0].sha256, "gone")
    assert found == (datetime.fromtimestamp(limit, UTC) if isinstance(limit, int) else limit)


# ------------------------------------------------------------------------------ the CCADB sample, where present

SHARED = Path(os.environ.get("MXCENSUS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "ccadb"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"NOT TESTED: no CCADB data at {SHARED}")
def test_reports_of_the_real_size(tmp_path, home):
    cas, roots = (
        [item.der for item in read_certificates(SHARED / f"{name}.pem")]
        for name in ("intermediates", "roots_all_sources")
    )
    parsed = {item.sha256: item for item in map(parse, [*cas, *roots])}
    rows = {
        row["sha256"]: row for row in csv.DictReader((SHARED / "roots_all_sources.csv").read_text().splitlines())
    }
    yes = {"Y": "Included", "N": "Not Included"}
    listed = [
        (
            parsed[sha256],
            row["owner"],
            {
                "Mozilla Status": yes[row["mozilla_tls"]],
                "Mozilla Trust Bits": "Websites",
                "Apple Status": yes[row["apple"]],
                "Microsoft Status": row["microsoft_status_20251006"] or "Not Included",
                "Microsoft EKUs For DTBs": row["microsoft_ekus_20251006"],
            },
        )
        for sha256, row in rows.items()
    ]
    chrome = [
        (
            parsed[sha256],
            f"constraints {{ sct_not_after_sec: {moment(row['chrome_sct_not_after'])} }}"
            if row["chrome_sct_not_after"]
            else "",
        )
        for sha256, row in rows.items()
        if row["chrome"] == "Y"
    ]
    kinds = [(parsed[sha256], "Root" if sha256 in rows else "Intermediate", True) for sha256 in parsed]
    texts = {
        "included": reports.included(*listed),
        "records": reports.records(*kinds),
        "pems": reports.pems(*parsed.values()),
        "chrome": reports.root_store(*chrome),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = {name: str(tmp_path / name) for name in texts}
    updated = trust_update.update(
        Sources(files["included"], files["records"], (files["pems"],), files["chrome"]), bundled(), NOW
    )
    found = load(updated.directory)
    mozilla = {sha256 for sha256, root in found.roots.items() if root.purposes[Program.MOZILLA]}
    assert mozilla == {sha256 for sha256, row in rows.items() if row["mozilla_tls"] == "Y"}
    assert sum(bool(root.purposes[Program.CHROME]) for root in found.roots.values()) == 100
    assert {Hierarchy.DISTRUSTED, Hierarchy.PUBLIC_OTHER_PURPOSE} <= found.measurable
    assert len(found.intermediates) > 4000


def moment(text):
    return int(datetime.fromisoformat(text).timestamp())


def test_pem_reports_may_be_in_single_quotes_and_have_a_byte_order_mark():
    text = (
        reports.pems(ROOTS[0])
        .replace('"-----BEGIN', "\"'-----BEGIN")
        .replace('-----END CERTIFICATE-----"', "-----END CERTIFICATE-----'\"")
    )
    assert list(ccadb.read_pems("\ufeff" + text, "x")) == [(ROOTS[0].sha256, ROOTS[0].der)]


READERS = {
    "/ccadb/included": (ccadb.read_included, ccadb.BadReport),
    "/ccadb/records": (ccadb.read_records, ccadb.BadReport),
    "/ccadb/pems?year=2026": (ccadb.read_pems, ccadb.BadReport),
    "/root_store.textproto": (
        lambda text, source: chrome_store.read(text, source).roots,
        chrome_store.BadRootStore,
    ),
}


@pytest.mark.parametrize("path", READERS)
def test_whatever_a_text_holds_it_is_read_or_refused_in_one_line(path):
    read, refused = READERS[path]
    rng, text, messages = random.Random(path), pages()[path], []
    for _ in range(150):
        at, size = rng.randrange(len(text)), rng.choice([1, 1, 10, 1000])
        junk = "".join(rng.choice("\"'\n\r\0,:{}-#\\\ufeff\u2028\U0010ffffA0") for _ in range(rng.randrange(4)))
        try:
            list(read(text[:at] + junk + text[at + size :], "x"))
        except refused as error:
            messages.append(str(error))
    assert messages
    assert not [message for message in messages if len(message.splitlines()) != 1]
