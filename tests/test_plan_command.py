"""`mxcensus plan` foretells what a scan of the same inputs does, and contacts nobody."""

import json
import re
import socket
from datetime import UTC, datetime

import pytest
from test_lab_scan import mxcensus

from lab.world import World
from mxcensus.cli import build_parser
from mxcensus.commands.scan import make_plan
from mxcensus.scanning import as_begun
from mxcensus.steps import source_addresses
from mxcensus.survey import operator_loads, polite_seconds
from scanner.pace import Limits
from scanner.records import Endpoint, ScanInfo


def endpoints(*rows):
    return [Endpoint(host, address, 25) for host, address in rows]


SPREAD = endpoints(*((f"mx.operator-{n}.com", f"192.0.2.{n}") for n in range(200)))
ONE = endpoints(*((f"mx{n}.operator.com", f"192.0.2.{n}") for n in range(200)))
SHARED = endpoints(*((f"mx.operator-{n}.com", "192.0.2.1") for n in range(3)))


@pytest.mark.parametrize(
    ("contacted", "limits", "seconds", "bound_by"),
    [
        (SPREAD, Limits(), 200 / 50 + 4.5, "rate"),
        (SPREAD, Limits(concurrency=2), 300, "concurrency"),
        (ONE, Limits(), 200, "per-operator"),  # one new connection a second
        (ONE, Limits(per_operator=1), 800, "per-operator"),
        (ONE, Limits(interval=0.1), 150, "per-operator"),  # sessions of 3 s, four at once
        (SPREAD, Limits(per_prefix=1), 800, "per-prefix"),  # all in one /24
        (ONE, Limits(per_prefix=4), 200, "per-operator"),
        (SHARED, Limits(), 2 * 63 + 3, "interval"),
        ([], Limits(), 0, "nothing"),
    ],
)
def test_the_slowest_limit_decides(contacted, limits, seconds, bound_by):
    loads = operator_loads(contacted, limits)
    assert polite_seconds(contacted, loads, limits) == (pytest.approx(seconds), bound_by)


def test_the_largest_operator_comes_first():
    first, *others = operator_loads([*SPREAD[:5], *ONE[:3]], Limits())
    assert (first.operator, first.connections, first.mx_hosts, first.addresses) == ("operator.com", 3, 3, 3)
    assert [load.connections for load in others] == [1] * 5


def test_plan_foretells_the_scan_and_contacts_nobody(tmp_path):
    with World(80, tmp_path) as world:
        inputs = [
            "-f", world.write_targets(tmp_path / "domains.csv"), "--resolver", world.resolver, "--port", world.port,
            "--allow-special-purpose", "--interval", "0.1", "--per-operator", "200", "--rate", "500", "--seed", "3",
        ]  # fmt: skip
        told = json.loads(mxcensus(tmp_path, "plan", *inputs, "--json").stdout)
        text = mxcensus(tmp_path, "plan", *inputs).stdout
        assert world.visits == []
        assert not (tmp_path / "census.db").exists()
        refused = json.loads(
            mxcensus(
                tmp_path, "plan", *[word for word in inputs if word != "--allow-special-purpose"], "--json"
            ).stdout
        )
        who = ["--ehlo-name", "census.example.net", "--contact", "the tests", "--timeout", "10"]
        done = json.loads(mxcensus(tmp_path, "scan", *inputs, *who, "--trust", world.snapshot, "--json").stdout)
        rows = mxcensus(tmp_path, "export", "--what", "domains").stdout.splitlines()
    routing = [json.loads(row)["routing"] for row in rows]
    assert told["domains"] == done["domains"] == 80
    assert told["routing"] == {kind: routing.count(kind) for kind in sorted(set(routing))}
    assert told["endpoints"] == done["endpoints"]
    assert told["connections"] == done["measured"] + done["failed"]
    assert told["not_tested"] == {"address-cap": done["not_tested"]}
    assert sum(load["connections"] for load in told["largest"]) == told["connections"]
    assert f"connections  {told['connections']}" in text
    assert refused["connections"] == 0
    assert refused["not_tested"] == {"special-purpose": told["endpoints"]}


@pytest.mark.parametrize(
    "arguments", [["plan"], ["plan", "bad_name.example"], ["plan", "a.example", "--rate", "0"]]
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments):
    done = mxcensus(tmp_path, *arguments, "--resolver", "127.0.0.1:9", status=2)
    assert len(done.stderr.splitlines()) == 1


def test_the_manifest_has_a_digest_of_what_decides_and_where_the_scan_ran():
    def manifest(*more, source=("192.0.2.9",)):
        return make_plan(build_parser().parse_args(["scan", "a.example", "--seed", "1", *more])).manifest(source)

    first = manifest()
    assert first["source_addresses"] == ["192.0.2.9"]
    assert re.fullmatch("[0-9a-f]{64}", first["settings_sha256"])
    one, two = manifest("--shard", "1/2"), manifest("--shard", "2/2", source=())
    assert one["settings_sha256"] == two["settings_sha256"] != first["settings_sha256"]  # it has half a share
    shared = manifest("--shard", "1/2", "--per-prefix", "4")["limits"]
    assert (shared["per_operator"], shared["per_prefix"]) == (2, 2)
    for other in (
        ["--per-prefix", "4"],
        ["--interval", "61"],
        ["--port", "26"],
        ["--contact", "x"],
        ["--resolver", "192.0.2.1"],
    ):
        assert manifest(*other)["settings_sha256"] != first["settings_sha256"]


def test_a_resumed_scan_keeps_its_bound_for_prefixes_unless_another_is_named():
    def plan(*more):
        return make_plan(build_parser().parse_args(["scan", "--resume", *more]))

    def per_prefix(begun, *more):
        info = ScanInfo(
            scan=1, label=None, started_at=datetime.now(UTC), finished_at=None, state="running", tool_version="0",
            rules_version="0", trust_id="t", seed=1, settings=json.loads(json.dumps(begun)),
        )  # fmt: skip
        return as_begun(plan(*more), info).scan.limits.per_prefix

    begun = plan("--per-prefix", "3").manifest()
    assert per_prefix(begun) == 3
    assert per_prefix(begun, "--per-prefix", "5") == 5
    assert per_prefix(plan().manifest()) is None
    older = plan().manifest()
    older["limits"] = {name: value for name, value in older["limits"].items() if name != "per_prefix"}
    assert per_prefix(older) is None


def test_source_addresses_are_addresses_of_this_machine():
    for address in source_addresses():
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
