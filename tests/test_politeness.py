"""What the servers saw: over a scan of hostile and honest hosts, every promise of politeness holds.

The lab's servers log each connection that reached them. A busy machine notes its end a little late: `LAG` seconds
before that, a session may already have been over.
"""

import json
from collections import defaultdict
from itertools import pairwise

import pytest
from test_lab_scan import EHLO_NAME, exported, mxcensus

from lab.hostile import HOSTILE
from lab.population import HOSTILE_OPERATORS, LONE_OPERATOR
from lab.process import WorldProcess

HOSTS = 110
INTERVAL, PER_OPERATOR, RATE, LAG = 0.3, 2, 40, 0.3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with WorldProcess(HOSTS, tmp_path_factory.mktemp("lab"), hostile=True) as world:
        yield world


def run_scan(world, folder, *more):
    targets = world.write_targets(folder / "domains.csv")
    before = len(world.visits)
    done = mxcensus(
        folder, "scan", "-f", targets, "--resolver", world.resolver, "--port", world.port,
        "--trust", world.snapshot, "--ehlo-name", EHLO_NAME, "--contact", "the tests",
        "--interval", INTERVAL, "--per-operator", PER_OPERATOR,
        "--rate", RATE, "--timeout", "2", "--json", *more,
    )  # fmt: skip
    return json.loads(done.stdout), world.visits[before:]


def operator(host):
    return ".".join(host.split(".")[-2:])


@pytest.mark.timeout(300)
def test_what_the_servers_saw(world, tmp_path):
    hosts = {host.address: host.name for host in world.population.hosts}
    addresses = list(hosts)
    by_address, by_network, by_mx_host, by_wildcard, by_domain = addresses[:-1:20][:5]
    number = by_domain.rpartition(".")[2]
    index = int(number) - 1
    domains = [f"mx{index}-{hosts[by_domain].split('.')[1]}.example", f"also{index}-good.example"]
    (tmp_path / "optouts").write_text(
        "\n".join(
            [by_address, f"{by_network}/32", f"*.{hosts[by_wildcard].partition('.')[2]}", *domains]
            + [f"mx:{host.name}" for host in world.population.hosts if host.address == by_mx_host]
        )
    )
    excluded = {by_address, by_network, by_mx_host, by_wildcard, by_domain}
    result, visits = run_scan(world, tmp_path, "--allow-special-purpose", "--exclude", "optouts")
    assert result["endpoints"] > HOSTS

    seen = defaultdict(list)
    for visit in visits:
        seen[visit.address].append(visit)
    assert set(seen) == set(addresses) - excluded
    assert max(map(len, seen.values())) == 3

    for address, theirs in seen.items():
        for first, second in pairwise(sorted(theirs, key=lambda visit: visit.began)):
            assert second.began >= first.ended, f"two at once at {address}"
            assert second.began - first.began >= INTERVAL, address

    shares = defaultdict(list)
    for visit in visits:
        shares[operator(hosts[visit.address])].append(visit)
    assert set(shares) == {*HOSTILE_OPERATORS, LONE_OPERATOR}
    most = max(at_once(theirs) for theirs in shares.values())
    assert most == PER_OPERATOR  # never more, and the bound was reached: the lab's silent servers see to that

    begins = sorted(visit.began for visit in visits)
    for first, later in zip(begins, begins[RATE * 2 :], strict=False):
        assert later - first > 1, "more than the rate"

    rows = exported(tmp_path, "endpoints")
    told = {row["address"]: row["reason"] for row in rows if row["address"] in excluded}
    assert set(told.values()) == {"excluded"}
    behaviours = {host.kind.behaviour for host in world.population.hosts if host.address in seen}
    assert len(behaviours & set(HOSTILE)) > 60
    assert {
        command for visit in visits for command in visit.commands if command.isascii() and command.isprintable()
    } <= {
        f"EHLO {EHLO_NAME}",
        "STARTTLS",
        "QUIT",
        "",
    }


def at_once(visits):
    """The most sessions under way at any one's beginning."""
    return max(sum(other.began <= visit.began < other.ended - LAG for other in visits) for visit in visits)


def test_special_purpose_addresses_see_not_one_connection(world, tmp_path):
    result, visits = run_scan(world, tmp_path)
    assert visits == []
    assert result["measured"] == result["failed"] == 0
    assert result["not_tested"] == result["endpoints"] > HOSTS
    assert {row["reason"] for row in exported(tmp_path, "endpoints")} == {"special-purpose"}
