"""The whole program against the lab: every row is what the lab's table says, twice in a row, on both databases."""

import csv
import io
import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from lab.hosts import KINDS
from lab.world import World

EHLO_NAME = "census.example.net"


def mxcensus(folder, *arguments, status=0, stdin=None):
    """Run the program as its user does; its settings folder is empty, so that nobody's own settings count."""
    done = subprocess.run(
        [sys.executable, "-m", "mxcensus", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env=os.environ | {"XDG_CONFIG_HOME": str(folder / "config"), "NO_COLOR": "1"},
        input=stdin,
        check=False,
    )
    assert done.returncode == status, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(300, tmp_path_factory.mktemp("lab")) as world:
        yield world


def scan(world, folder, *more, seed=7):
    targets = world.write_targets(folder / "domains.csv")
    policies = () if "--sample" in more else ("--mta-sts", "--mta-sts-port", world.https_port)
    done = mxcensus(
        folder, "scan", "-f", targets, "--resolver", world.resolver, "--port", world.port,
        "--trust", world.snapshot,
        "--ehlo-name", EHLO_NAME, "--contact", "the tests", "--allow-special-purpose", "--interval", "0.1",
        "--per-operator", "200", "--rate", "2000", "--timeout", "10", "--seed", seed, "--json", *policies, *more,
    )  # fmt: skip
    return json.loads(done.stdout)


def exported(folder, what, *more):
    text = mxcensus(folder, "export", "--what", what, *more).stdout
    return [json.loads(line) for line in text.splitlines()]


def differences(world, folder, *more):
    """Every field of every row that is not what the lab declared."""
    expected_rows = world.expected
    domains = {row["domain"]: row for row in exported(folder, "domains", *more)}
    endpoints = {(row["mx_host"], row["address"]): row for row in exported(folder, "endpoints", *more)}
    certificates = {row["sha256"]: row for row in exported(folder, "certificates", *more)}
    assert sorted(domains) == sorted(expected_rows.domains)
    assert sorted(endpoints) == sorted(expected_rows.endpoints)
    assert set(certificates) >= set(expected_rows.certificates)
    wrong = []
    for rows, expected in (
        (domains, expected_rows.domains),
        (endpoints, expected_rows.endpoints),
        (certificates, expected_rows.certificates),
    ):
        for key, fields in expected.items():
            wrong += [(key, name, rows[key][name], v) for name, v in fields.items() if rows[key][name] != v]
    return wrong


@pytest.mark.parametrize("round_number", [1, 2])
def test_a_scan_returns_exactly_the_rows_of_the_table(world, tmp_path, database_url, round_number):
    before = len(world.visits)
    summary = scan(world, tmp_path, "--db", database_url, seed=round_number)
    assert differences(world, tmp_path, "--db", database_url) == []
    assert summary["domains"] == 300
    assert summary["measured"] + summary["failed"] + summary["not_tested"] == summary["endpoints"]
    visits = world.visits[before:]
    assert len(visits) <= summary["measured"] + summary["failed"]  # a refused connection reaches nobody
    spoken = [visit for visit in visits if visit.commands]
    assert all(visit.commands[0] == f"EHLO {EHLO_NAME}" or visit.commands == ["QUIT"] for visit in spoken)


def test_policies_are_fetched_once_from_where_they_are_and_failures_say_why(world, tmp_path):
    before = len(world.requests)
    scan(world, tmp_path)
    rows = {row["domain"]: row for row in exported(tmp_path, "domains")}
    found = {name: row["mta_sts_policy"]["failure"] for name, row in rows.items() if row["mta_sts_policy"]}
    assert found == world.population.policy_failures
    assert len(set(found.values())) > 10
    requests = world.requests[before:]
    asked = [request for request in requests if request.line]
    assert {request.line for request in asked} == {"GET /.well-known/mta-sts.txt HTTP/1.1"}
    assert all(request.host == f"{request.server_name}:{world.https_port}" for request in asked)
    assert all(request.agent.endswith("(the tests)") for request in asked)
    hosts = {f"mta-sts.{name}" for name in rows}
    assert len({request.address for request in requests}) == len(requests)
    assert {request.server_name for request in asked} <= hosts
    mismatch = rows["sts-enforce-mismatch-0.example"]["mta_sts_policy"]
    assert mismatch["unmatched"] == world.population.routes["sts-enforce-mismatch-0.example"]
    assert (mismatch["mode"], mismatch["max_age"], mismatch["mx"]) == ("enforce", 604800, ["mx.elsewhere.test"])


def test_without_the_option_no_policy_is_fetched_and_a_resumed_scan_may_add_them(world, tmp_path):
    before = len(world.requests)
    targets = ["sts-enforce-0.example", "sts-html-0.example", "sts-no-id-0.example", "good-0.example"]
    common = ["--resolver", world.resolver, "--allow-special-purpose", "--trust", world.snapshot, "--json"]
    mxcensus(tmp_path, "scan", *targets, *common, "--port", world.port)
    standings = {row["domain"]: row["mta_sts"] for row in exported(tmp_path, "domains")}
    assert standings == dict(zip(targets, ["not-fetched", "not-fetched", "record-invalid", "none"], strict=True))
    assert len(world.requests) == before
    more = ["--mta-sts", "--mta-sts-port", world.https_port]
    mxcensus(tmp_path, "scan", "--resume", *common, *more)
    standings = {row["domain"]: row["mta_sts"] for row in exported(tmp_path, "domains")}
    assert standings == dict(zip(targets, ["enforce", "unavailable", "record-invalid", "none"], strict=True))
    assert len(world.requests) == before + 2
    assert "nothing to resume" in mxcensus(tmp_path, "scan", "--resume", *common, *more, status=2).stderr


def test_no_address_sees_two_connections_at_once_or_closer_than_the_interval(world, tmp_path):
    before = len(world.visits)
    scan(world, tmp_path)
    by_address = {}
    for visit in sorted(world.visits[before:], key=lambda visit: visit.began):
        by_address.setdefault(visit.address, []).append(visit)
    several = [visits for visits in by_address.values() if len(visits) > 1]
    assert several, "nothing to compare"
    for visits in several:
        assert len(visits) <= 3
        for first, second in pairwise(visits):
            assert second.began - first.began >= 0.1


def test_names_beyond_the_cap_are_not_tested_and_the_draw_is_the_seed_s(world, tmp_path):
    scan(world, tmp_path, seed=1)
    capped = [row["mx_host"] for row in exported(tmp_path, "endpoints") if row["reason"] == "address-cap"]
    again = tmp_path / "again"
    again.mkdir()
    scan(world, again, seed=1)
    assert capped == [row["mx_host"] for row in exported(again, "endpoints") if row["reason"] == "address-cap"]
    assert len(capped) > 3


def test_loopback_is_not_contacted_without_the_option_and_opt_outs_never(world, tmp_path):
    targets = world.write_targets(tmp_path / "domains.csv")
    common = ["scan", "-f", targets, "--resolver", world.resolver, "--port", world.port, "--ehlo-name", EHLO_NAME]
    before = len(world.visits)
    mxcensus(tmp_path, *common, "--contact", "the tests", status=1)  # one name is SERVFAIL, nothing was measured
    assert len(world.visits) == before
    assert {row["reason"] for row in exported(tmp_path, "endpoints")} == {"special-purpose"}
    (tmp_path / "optout").write_text("127.0.0.0/8\n*.example # and their domains\n")
    mxcensus(tmp_path, *common, "--contact", "x", "--allow-special-purpose", "--exclude", "optout", status=2)
    assert len(world.visits) == before


def test_report_rows_sum_to_what_was_measured_and_formats_agree(world, tmp_path):
    scan(world, tmp_path)
    report = json.loads(mxcensus(tmp_path, "report", "--format", "json").stdout)
    assert report["format_version"] == 1
    for figure in report["figures"]:
        coverage = figure["coverage"]
        assert coverage["attempted"] == coverage["measured"] + sum(coverage["not_measured"].values()), figure["id"]
        assert sum(row["count"] for row in figure["rows"]) == coverage["measured"], (figure["id"], figure["unit"])
    ids = {figure["id"] for figure in report["figures"]}
    assert ids >= {
        "routing", "outcome", "eku", "hierarchy", "eku_by_hierarchy", "programs", "client_auth",
        "eku_by_client_auth",
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(mxcensus(tmp_path, "report", "--format", "csv").stdout)))
    assert len(rows) >= sum(len(figure["rows"]) for figure in report["figures"])
    assert "server+client" in mxcensus(tmp_path, "report", "--format", "md").stdout


def test_resume_goes_on_with_what_is_parked_and_says_when_nothing_is_left(world, tmp_path):
    summary = scan(world, tmp_path)
    before = len(world.visits)
    done = mxcensus(
        tmp_path, "scan", "--resume", "--json", "--resolver", world.resolver, "--trust", world.snapshot,
        "--allow-special-purpose", "--ehlo-name", EHLO_NAME, "--contact", "x",
    )  # fmt: skip
    again = json.loads(done.stdout)
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in summary.items() if k != "seconds"
    }
    assert len(world.visits) == before


def test_every_kind_of_host_is_in_the_lab():
    assert len(KINDS) > 40


BAD = [
    (["scan"], None, "no domain"),
    (["scan", "bad_name.example"], None, "bad"),
    (["scan", "-f", "missing.txt"], None, "No such file"),
    (["scan", "-f", "-"], "", "empty"),
    (["scan", "-f", "-"], "\0\0\0\0", "not a text file"),
    (["scan", "-f", "-"], "http://example.org/\n", "URL"),
    (["scan", "-f", "-"], "".join(f"d{n}.example\n" for n in range(11)), "--contact"),
    (["scan", "a.example", "--interval", "-1"], None, "interval"),
    (["scan", "a.example", "--port", "99999"], None, "port"),
    (["scan", "a.example", "--resolver", "1.2.3.4:x"], None, "port"),
    (["scan", "a.example", "--exclude", "missing"], None, "No such file"),
    (["scan", "a.example", "--trust", "missing"], None, "missing"),
    (["scan", "a.example", "--db", "nonsense"], None, "database"),
    (["scan", "--resume"], None, "census.db"),
    (["report"], None, "census.db"),
    (["report", "--format", "doc"], None, "doc"),
    (["export", "--what", "people"], None, "people"),
    (["classify", "missing.pem"], None, "missing.pem"),
    (["nonsense"], None, "nonsense"),
]


@pytest.mark.parametrize(("arguments", "stdin", "says"), BAD, ids=[" ".join(row[0]) for row in BAD])
def test_bad_input_is_one_clear_line_and_status_2(tmp_path, arguments, stdin, says):
    done = mxcensus(tmp_path, *arguments, status=2, stdin=stdin)
    assert says in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) <= 2, lines  # a bad line of a file is said, then that nothing is left
    assert not (tmp_path / "census.db").exists()


def test_bad_lines_are_said_with_their_number_and_the_rest_is_scanned(world, tmp_path):
    lines = ["good-0.example", "not a name", "x" * 300, "1.2.3.4", "null-mx-0.example"]
    done = mxcensus(
        tmp_path, "scan", "-f", "-", "--json", "--resolver", world.resolver, "--port", world.port,
        "--allow-special-purpose", "--trust", world.snapshot, stdin="\n".join(lines),
    )  # fmt: skip
    assert json.loads(done.stdout)["domains"] == 2
    assert [f"standard input:{n}:" in done.stderr for n in (1, 2, 3, 4, 5)] == [False, True, True, True, False]
