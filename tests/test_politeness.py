"""What the servers saw: over one scan of hostile and honest hosts every promise of politeness holds.

The lab's servers log each connection; `packets` has what reached an address at all. A busy
machine notes the end of a session a little late: `LAG` seconds before that, it may already have been over.
"""

import json
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from packets import Packets
from test_lab_scan import EHLO_NAME, exported, mxcensus

from lab.hostile import HOSTILE
from lab.population import HOSTILE_OPERATORS, LONE_OPERATOR
from lab.process import WorldProcess

HOSTS = 110
INTERVAL, PER_OPERATOR, RATE, LAG = 0.3, 2, 40, 0.3
NEIGHBOURS, PER_PREFIX = 20, 3


@dataclass(frozen=True)
class Seen:
    """A scan: where it is stored, what it said of itself, and what servers and the system saw of it."""

    folder: Path
    result: dict
    visits: list
    packets: list | None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with WorldProcess(HOSTS, tmp_path_factory.mktemp("lab"), hostile=True) as world:
        yield world


@contextmanager
def captured(world):
    """All packets to the lab's block, or None where a packet socket is not allowed."""
    try:
        packets = Packets(world.population.hosts[0].address.rpartition(".0.")[0])
    except PermissionError:
        yield None
        return
    with packets:
        yield packets.seen


def run_scan(world, folder, *more):
    targets = world.write_targets(folder / "domains.csv")
    before = len(world.visits)
    with captured(world) as packets:
        done = mxcensus(
            folder, "scan", "-f", targets, "--resolver", world.resolver, "--port", world.port,
            "--trust", world.snapshot, "--ehlo-name", EHLO_NAME, "--contact", "the tests",
            "--interval", INTERVAL, "--per-operator", PER_OPERATOR, "--mta-sts", "--mta-sts-port", world.https_port,
            "--rate", RATE, "--timeout", "2", "--json", *more,
        )  # fmt: skip
    return Seen(folder, json.loads(done.stdout), world.visits[before:], packets)


def operator(host):
    return ".".join(host.split(".")[-2:])


@pytest.fixture(scope="module")
def scanned(world, tmp_path_factory):
    """One scan, with opt-outs of each kind, and what was seen of it."""
    folder = tmp_path_factory.mktemp("scan")
    hosts = {host.address: host.name for host in world.population.hosts}
    optouts = excluded_of(world)
    by_wildcard, by_mx_host, by_domain = optouts.pop("wildcard"), optouts.pop("mx"), optouts.pop("domain")
    number = by_domain.rpartition(".")[2]
    index = int(number) - 1
    domains = [f"mx{index}-{hosts[by_domain].split('.')[1]}.example", f"also{index}-good.example"]
    (folder / "optouts").write_text(
        "\n".join(
            [optouts["address"], f"{optouts['network']}/32", f"*.{hosts[by_wildcard].partition('.')[2]}", *domains]
            + [f"mx:{host.name}" for host in world.population.hosts if host.address == by_mx_host]
        )
    )
    return run_scan(world, folder, "--allow-special-purpose", "--exclude", "optouts")


def excluded_of(world):
    """How an address opted out -> it."""
    addresses = list(dict.fromkeys(host.address for host in world.population.hosts))
    return dict(zip(("address", "network", "mx", "wildcard", "domain"), addresses[:-1:20], strict=False))


@pytest.mark.timeout(300)
def test_what_the_servers_saw(world, scanned):
    hosts = {host.address: host.name for host in world.population.hosts}
    excluded = set(excluded_of(world).values())
    assert scanned.result["endpoints"] > HOSTS

    seen = defaultdict(list)
    for visit in scanned.visits:
        seen[visit.address].append(visit)
    assert set(seen) == set(hosts) - excluded
    assert max(map(len, seen.values())) == 3

    for address, theirs in seen.items():
        for first, second in pairwise(sorted(theirs, key=lambda visit: visit.began)):
            assert second.began >= first.ended, f"two at once at {address}"
            assert second.began - first.began >= INTERVAL, address

    shares = defaultdict(list)
    for visit in scanned.visits:
        shares[operator(hosts[visit.address])].append(visit)
    assert set(shares) == {*HOSTILE_OPERATORS, LONE_OPERATOR}
    most = max(at_once(theirs) for theirs in shares.values())
    assert most == PER_OPERATOR  # never more, and the bound was reached: the lab's silent servers see to that

    begins = sorted(visit.began for visit in scanned.visits)
    for first, later in zip(begins, begins[RATE * 2 :], strict=False):
        assert later - first > 1, "more than the rate"

    rows = exported(scanned.folder, "endpoints")
    told = {row["address"]: row["reason"] for row in rows if row["address"] in excluded}
    assert set(told.values()) == {"excluded"}
    behaviours = {host.kind.behaviour for host in world.population.hosts if host.address in seen}
    assert len(behaviours & set(HOSTILE)) > 60
    assert {
        command
        for visit in scanned.visits
        for command in visit.commands
        if command.isascii() and command.isprintable()
    } <= {
        f"EHLO {EHLO_NAME}",
        "STARTTLS",
        "QUIT",
        "",
    }


@pytest.mark.timeout(300)
def test_not_one_packet_to_who_opted_out_and_the_interval_between_sessions_and_policies(world, scanned, not_tested):
    """As the system saw it, policy hosts included, of which some share their addresses with mail hosts."""
    if scanned.packets is None:
        not_tested("packets are not seen without CAP_NET_RAW")
    excluded = set(excluded_of(world).values())
    assert not [packet for packet in scanned.packets if packet.address in excluded]
    begins = defaultdict(list)
    for packet in scanned.packets:
        if packet.begins:
            begins[packet.address].append(packet)
    assert {packet.port for packets in begins.values() for packet in packets} == {world.port, world.https_port}
    shared = [address for address, packets in begins.items() if len({packet.port for packet in packets}) == 2]
    assert len(shared) > 4
    for address, packets in begins.items():
        for first, second in pairwise(packets):
            assert second.at - first.at >= INTERVAL, address

    policies = {row["domain"]: row["mta_sts_policy"] for row in exported(scanned.folder, "domains")}
    failures = Counter(policy["failure"] for policy in policies.values() if policy)
    assert failures == {None: len(shared), "excluded": len(world.population.policy_hosts) - len(shared)}
    assert failures["excluded"] == 2


def at_once(visits):
    """The most sessions under way at any one's beginning."""
    return max(sum(other.began <= visit.began < other.ended - LAG for other in visits) for visit in visits)


@pytest.mark.timeout(300)
def test_one_network_sees_no_more_than_its_share_whoever_its_operators_are(tmp_path):
    """All hosts of this lab are in one /24; its operators may have more together, and had it without the option."""
    with WorldProcess(NEIGHBOURS, tmp_path, hostile=True) as world:
        (network,) = {host.address.rpartition(".")[0] for host in world.population.hosts}
        seen = run_scan(world, tmp_path, "--allow-special-purpose", "--per-prefix", PER_PREFIX)
    assert {visit.address.rpartition(".")[0] for visit in seen.visits} == {network}
    assert len({visit.address for visit in seen.visits}) == NEIGHBOURS
    assert len(HOSTILE_OPERATORS) * PER_OPERATOR > PER_PREFIX == at_once(seen.visits)
    begins = sorted(visit.began for visit in seen.visits)
    assert begins[-1] - begins[0] >= (len(begins) - 1) * INTERVAL - LAG  # 4 / PER_PREFIX would be more
    if seen.packets is not None:  # policy hosts are in the same network
        begins = sorted(packet.at for packet in seen.packets if packet.begins)
        assert len(begins) > len(seen.visits)
        assert begins[-1] - begins[0] >= (len(begins) - 1) * INTERVAL - LAG


def test_special_purpose_addresses_see_not_one_connection(world, tmp_path):
    seen = run_scan(world, tmp_path)
    assert seen.visits == []
    assert seen.packets in (None, [])
    assert seen.result["measured"] == seen.result["failed"] == 0
    assert seen.result["not_tested"] == seen.result["endpoints"] > HOSTS
    assert {row["reason"] for row in exported(tmp_path, "endpoints")} == {"special-purpose"}
    policies = [row["mta_sts_policy"] for row in exported(tmp_path, "domains") if row["mta_sts_policy"]]
    assert {policy["failure"] for policy in policies} == {"special-purpose"}
