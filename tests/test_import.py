"""`mxcensus import`: what others have becomes a census, per role, whole, and in constant memory."""

import base64
import copy
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hierarchies import intermediate, leaf, root
from test_lab_scan import exported, mxcensus

from mxcensus.cli import main
from scanner import zgrab2
from scanner.records import ClientAuth, Failure, Stage, Status

SHARED = Path(os.environ.get("MXCENSUS_SHARED") or Path(__file__).parents[2] / "shared")
TOP = root()
MIDDLE = intermediate(TOP)
ENDS = [leaf(MIDDLE) for _ in range(3)]
DERS = [issued.certificate.der for issued in ENDS]


def text_of(der):
    return base64.b64encode(der).decode()


def lines(path, *values):
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in values))
    return path


def imported(folder, *arguments, status=0):
    return json.loads(mxcensus(folder, "import", *arguments, status=status).stdout)


def figures(folder, *arguments):
    report = json.loads(mxcensus(folder, "report", "--format", "json", *arguments).stdout)
    return {(one["id"], one["unit"], one["role"]): one for one in report["figures"]}


def counts(figure):
    return {tuple(row["key"].values()): row["count"] for row in figure["rows"]}


def test_a_log_gives_the_figures_of_a_scan_per_role(tmp_path):
    seen = [
        {"der": text_of(DERS[0]), "role": "client", "count": 900, "operator": "a.example", "day": "2025-12-01"},
        {"der": text_of(DERS[0]), "role": "client", "count": 90, "operator": "b.example", "required": True},
        {"pem": ENDS[1].pem + MIDDLE.pem, "role": "client", "operator": "a.example"},
        {"pem": ENDS[1].pem, "role": "server", "count": 7},
        {"pem": ENDS[2].pem},
        {"sha256": ENDS[2].certificate.sha256.upper(), "role": "client"},
        {"sha256": "0" * 64, "role": "client", "count": 5},
    ]
    done = imported(tmp_path, lines(tmp_path / "log.jsonl", *seen), "--label", "a provider")
    expected = {"scan": 1, "entries": 7, "sightings": 7, "observations": 0, "certificates": 4, "skipped": 0}
    assert done == expected
    found = figures(tmp_path)
    clients = found["eku", "certificate", "client"]
    assert clients["coverage"] == {"attempted": 3, "measured": 3, "not_measured": {}}
    assert found["eku", "weight", "client"]["coverage"] == {
        "attempted": 997.0,
        "measured": 992.0,
        "not_measured": {"unknown-certificate": 5.0},
    }
    assert found["eku", "operator", "client"]["coverage"]["measured"] == 2
    assert found["eku", "certificate", "server"]["coverage"]["measured"] == 2
    assert found["eku", "weight", "server"]["coverage"]["measured"] == 8.0
    assert sum(counts(found["hierarchy", "certificate", "client"]).values()) == 3
    assert "mixed" not in str(counts(found["hierarchy", "operator", "client"]))
    need = counts(found["client_need", "certificate", "client"])
    assert sum(need.values()) == 3
    assert {(presented, required) for _, presented, required in need} == {("yes", "yes"), ("yes", "unknown")}
    rows = exported(tmp_path, "certificates")
    assert Counter(row["role"] for row in rows) == {"server": 2, "client": 1, "ca": 1}


def test_files_of_certificates_are_servers_unless_told_otherwise(tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("".join(one.pem for one in (*ENDS, MIDDLE, TOP)))
    done = imported(tmp_path, bundle, "--day", "2025-12-01")
    assert (done["sightings"], done["certificates"]) == (3, 5)
    assert figures(tmp_path)["eku", "certificate", "server"]["coverage"]["measured"] == 3
    assert {row["role"] for row in exported(tmp_path, "certificates")} == {"server", "ca"}
    document = json.loads(mxcensus(tmp_path, "report", "--format", "json").stdout)
    assert document["scan"]["started_at"] == "2025-12-01T00:00:00Z"
    imported(tmp_path, bundle, "--role", "client")
    assert figures(tmp_path)["eku", "certificate", "client"]["coverage"]["measured"] == 3
    joined = figures(tmp_path, "--scan", 1, "--clients", 2)["client_need", "certificate", "client"]
    assert {key[1] for key in counts(joined)} == {"yes"}
    assert {key[1] for key in counts(figures(tmp_path, "--scan", 1)["client_need", "certificate", "client"])} == {
        "unknown"
    }


BAD = {
    "{": "not a JSON object",
    "[1]": "not a JSON object",
    '{"der": "***"}': "der is not base64",
    '{"sha256": "12"}': "sha256 is 64 hex digits",
    '{"sha256": "' + "0" * 64 + '", "role": "ca", "count": 0}': "count is",
    '{"sha256": "' + "0" * 64 + '", "required": 1}': "required is",
    '{"der": "AAAA", "day": "yesterday"}': "day is a date",
    '{"data": {"smtp": {"status": "success"}}}': "no ip",
    '{"ip": "192.0.2.1", "data": {"smtp": {"status": "success", "port": 0}}}': "port is no port",
    '{"ip": "192.0.2.1", "data": {"smtp": {"status": "success"}}}': "timestamp is no time",
    '{"ip": "192.0.2.1", "domain": "a b", "data": {"smtp": {"status": "success"}}}': "domain: ",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_said_with_its_number_and_the_others_are_kept(tmp_path, capsys, line):
    good = json.dumps({"der": text_of(DERS[0])})
    log = lines(tmp_path / "log", good, line, good)
    assert main(["import", str(log), "--db", f"sqlite:///{tmp_path}/census.db"]) == 2
    out, err = capsys.readouterr()
    assert f"log:2: skipped: {BAD[line]}" in err
    assert err.count("\n") == 1
    told = json.loads(out)
    assert (told["skipped"], told["sightings"], told["certificates"]) == (1, 2, 1)


def test_many_bad_lines_are_counted_and_nothing_is_left_of_an_import_of_nothing(tmp_path):
    bad = lines(tmp_path / "bad", *["{}"] * 50)
    done = mxcensus(tmp_path, "import", bad, status=2)
    assert done.stderr.splitlines()[-1] == "mxcensus: nothing was imported"
    assert len(done.stderr.splitlines()) == 21
    assert "no scan" in mxcensus(tmp_path, "report", status=2).stderr
    done = mxcensus(tmp_path, "import", bad, lines(tmp_path / "good", {"der": text_of(DERS[0])}), status=2)
    assert done.stderr.splitlines()[-1] == "mxcensus: 31 more skipped"  # the file without any is one more


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.pem"], "nothing.pem: no such file"),
        (["empty"], "nothing was imported"),
        (["--role", "ca", "empty"], "invalid choice"),
        (["--day", "today", "empty"], "YYYY-MM-DD"),
        ([], "FILE"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_status_2(tmp_path, arguments, says):
    (tmp_path / "empty").write_text("")
    done = mxcensus(tmp_path, "import", *arguments, status=2)
    assert says in done.stderr.splitlines()[-1]


# ---------------------------------------------------------------------------------------------------- zgrab2


def scanned(**values):
    """A line as zgrab2 writes it, made up."""
    hello = {
        "version": {"name": "TLSv1.2", "value": 771},
        "cipher_suite": {"name": "TLS_AES_128_GCM_SHA256", "value": 4865},
        "supported_versions": {"selected_version": {"name": "TLSv1.3", "value": 772}},
        "key_share": {"name": "x25519", "value": 29},
    }
    presented = {"certificate": {"raw": text_of(DERS[0])}, "chain": [{"raw": text_of(MIDDLE.certificate.der)}]}
    result = {
        "banner": "220 mx.example.org ESMTP Postfix\r\n",
        "ehlo": "250-mx.example.org\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
        "starttls": "220 2.0.0 ready\r\n",
        "tls": {"handshake_log": {"server_hello": hello, "server_certificates": presented}},
        "quit": "221 bye\r\n",
    }
    part = {"status": "success", "protocol": "smtp", "port": 25, "timestamp": "2025-12-01T10:00:00Z"}
    part |= {"result": result} | {name: value for name, value in values.items() if name in ("status", "error")}
    for name, value in values.items():
        if name in result and value is None:
            del result[name]
        elif name not in ("status", "error"):
            result[name] = value
    return {"ip": "192.0.2.1", "domain": "MX.example.org.", "data": {"smtp": part}}


TIMED_OUT = {"status": "io-timeout"}
ENDINGS = {
    "quit": ({}, Stage.QUIT, None),
    "without quit": ({"quit": None}, Stage.HANDSHAKE, None),
    "refused": (
        {"banner": None, "ehlo": None, "starttls": None, "tls": None, "status": "connection-refused"},
        Stage.CONNECT,
        Failure.REFUSED,
    ),
    "no connection in time": (
        {"banner": None, "ehlo": None, "starttls": None, "tls": None, "status": "connection-timeout"},
        Stage.CONNECT,
        Failure.TIMEOUT,
    ),
    "silent": (
        {"banner": None, "ehlo": None, "starttls": None, "tls": None} | TIMED_OUT,
        Stage.GREETING,
        Failure.TIMEOUT,
    ),
    "421": ({"banner": "421 busy\r\n", "tls": None}, Stage.GREETING, Failure.NEGATIVE_REPLY),
    "no SMTP": ({"banner": "SSH-2.0-x\r\n", "tls": None}, Stage.GREETING, Failure.MALFORMED),
    "HELO only": ({"ehlo": None, "helo": "250 a\r\n", "starttls": None, "tls": None}, Stage.EHLO, Failure.LOCAL),
    "no STARTTLS": ({"ehlo": "250 a\r\n", "starttls": None, "tls": None}, Stage.EHLO, Failure.NOT_OFFERED),
    "454": ({"starttls": "454 no\r\n", "tls": None}, Stage.STARTTLS, Failure.NEGATIVE_REPLY),
    "alert": (
        {"tls": None, "status": "unknown-error", "error": "remote error: tls: handshake failure"},
        Stage.HANDSHAKE,
        Failure.TLS_ALERT,
    ),
    "reset": (
        {"tls": None, "status": "unknown-error", "error": "read tcp: connection reset by peer"},
        Stage.HANDSHAKE,
        Failure.RESET,
    ),
    "no TLS": (
        {"tls": None, "status": "unknown-error", "error": "first record odd"},
        Stage.HANDSHAKE,
        Failure.TLS_PROTOCOL,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_line_of_zgrab2_is_an_observation(name):
    values, stage, failure = ENDINGS[name]
    (found,) = zgrab2.observations(scanned(**values))
    assert (found.stage, found.failure) == (stage, failure)
    assert (found.endpoint.mx_host, found.endpoint.address, found.endpoint.port) == (
        "mx.example.org",
        "192.0.2.1",
        25,
    )
    assert (found.status is Status.MEASURED) == bool(found.certificate_list) == (values.get("tls", 1) is not None)
    assert found.client_auth is ClientAuth.UNTESTED


def test_versions_and_suites_are_ianas():
    (found,) = zgrab2.observations(scanned())
    assert (found.tls_version, found.cipher_suite, found.group) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "x25519")
    assert found.certificate_list == (DERS[0], MIDDLE.certificate.der)
    line = scanned()
    del line["data"]["smtp"]["result"]["tls"]["handshake_log"]["server_hello"]["supported_versions"]
    assert [one.tls_version for one in zgrab2.observations(line)] == ["TLSv1.2"]


def test_what_others_scanned_is_a_baseline_for_compare(tmp_path):
    old = [scanned(), scanned(starttls="454 no\r\n", tls=None) | {"ip": "192.0.2.2", "domain": "mx.example.net"}]
    done = imported(tmp_path, lines(tmp_path / "old", *old, old[0]), "--day", "2025-12-01", "--label", "theirs")
    assert (done["observations"], done["sightings"], done["certificates"]) == (3, 0, 2)
    rows = exported(tmp_path, "endpoints")
    assert [(row["mx_host"], row["status"]) for row in rows] == [
        ("mx.example.net", "failed"),
        ("mx.example.org", "measured"),
    ]
    assert (rows[1]["software"], rows[1]["eku_class"]) == ("postfix", ENDS[0].certificate.eku_class)
    found = figures(tmp_path)
    assert found["eku", "mx_host", "server"]["coverage"]["not_measured"] == {"starttls/negative-reply": 1}
    assert found["eku", "operator", "server"]["coverage"]["attempted"] == 2
    new = copy.deepcopy(old[0])
    presented = new["data"]["smtp"]["result"]["tls"]["handshake_log"]["server_certificates"]
    presented["certificate"]["raw"] = text_of(DERS[1])
    imported(tmp_path, lines(tmp_path / "new", new))
    changes = json.loads(mxcensus(tmp_path, "compare", "1", "2", "--json").stdout)
    (hosts,) = [one for one in changes["units"] if one["unit"] == "mx_host"]
    assert (hosts["matched"], hosts["certificate_renewed"]) == (1, 1)


def test_the_sample_of_zgrab2_is_read_whole(tmp_path):
    sample = SHARED / "data" / "zgrab2" / "smtp-sample.jsonl"
    if not sample.exists():
        pytest.skip(f"{sample} is not there")
    done = imported(tmp_path, sample)
    assert (done["entries"], done["observations"], done["skipped"]) == (10, 10, 0)
    ends = Counter((row["stage"], row["failure"]) for row in exported(tmp_path, "endpoints"))
    assert ends == {
        ("quit", None): 6,
        ("ehlo", "local"): 1,
        ("ehlo", "not-offered"): 1,
        ("starttls", "negative-reply"): 1,
        ("greeting", "negative-reply"): 1,
    }
    classified = mxcensus(tmp_path, "classify", sample).stdout.splitlines()
    assert len(classified) == sum(len(row["certificate_list"]) for row in exported(tmp_path, "endpoints"))


def resident_kib(folder, file):
    """The most memory that an import of this file had."""
    code = (
        "import resource, sys; from mxcensus.cli import main; status = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "import", str(file), "--db", f"sqlite:///{file}.db"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env=os.environ | {"XDG_CONFIG_HOME": str(folder / "config")},
        check=True,
    )
    return int(done.stderr.split()[-1])


def test_memory_does_not_grow_with_the_lines(tmp_path):
    """Lines of one certificate: what grows with distinct certificates is the database, not the program."""
    line = {"der": text_of(DERS[0]), "role": "client"}
    small, large = (lines(tmp_path / str(size), *[line] * size) for size in (1_000, 15_000))
    assert resident_kib(tmp_path, large) < resident_kib(tmp_path, small) + 8_000
