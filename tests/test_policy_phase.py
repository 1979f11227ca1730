"""The phase that fetches MTA-STS policies: whom it asks, which checks come first, how far apart."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from scanner.ledger import MemoryLedger
from scanner.pace import Limits, Pacer
from scanner.policy_phase import PolicyPhase, PolicySteps
from scanner.policy_records import PolicyFailure, StsAnswer, StsMode, StsPolicy, StsRecord
from scanner.records import Answer, AnswerStatus, MailRouting, Reason, Routing
from scanner.shards import Shard

EMPTY = Answer(AnswerStatus.NODATA, "NOERROR")
NONEXISTENT = Answer(AnswerStatus.NXDOMAIN, "NXDOMAIN")
SERVFAIL = Answer(AnswerStatus.FAILED, "SERVFAIL")


def at(*addresses, name=""):
    return Answer(AnswerStatus.OK, "NOERROR", canonical_name=name, data=addresses)


class World:
    """Domains with a record, DNS as a dict, and a fetch that notes when it was made."""

    def __init__(self, dns, *, excluded=(), refused=(), status=None, limits=None, shard=None, seconds=0.0):
        self.dns = dns
        self.excluded, self.refused, self.status = set(excluded), dict(refused), dict(status or {})
        self.seconds = seconds
        self.limits = limits or Limits(interval=0.0, rate=1000.0, per_operator=100)
        self.shard = shard
        self.looked_up, self.claimed, self.fetched, self.at_once, self.most = [], [], [], 0, 0
        self.ledger = MemoryLedger(1)
        self.ledger.claim_policies = self._claim
        self.stop, self.began = asyncio.Event(), asyncio.Event()
        self.held_back = {}

    async def _claim(self, fetches, now):
        self.claimed += fetches

    async def _held_back(self):
        return self.held_back

    async def _lookup(self, questions):
        self.looked_up += [name for name, rdtype in questions if rdtype == "A"]
        return [self.dns.get(name, {}).get(rdtype, EMPTY) for name, rdtype in questions]

    async def _fetch(self, domain, address):
        assert (domain, address) in self.claimed
        self.fetched.append((domain, address, time.monotonic()))
        self.began.set()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        status = self.status.get(domain, 200)
        failure = None if status == 200 else PolicyFailure.STATUS
        return StsPolicy(domain, datetime.now(UTC), failure, address=address, status=status, mode=StsMode.NONE)

    async def run(self):
        """domain -> failure of all that was put out."""
        self.ledger.held_back = self._held_back
        for name in self.dns:
            record = StsAnswer(StsRecord.VALID, "NOERROR", "1")
            await self.ledger.note(
                MailRouting(name.removeprefix("mta-sts."), Routing.MX, "NOERROR", mta_sts=record)
            )
        steps = PolicySteps(
            lookup=self._lookup,
            fetch=self._fetch,
            excluded=lambda name: name in self.excluded,
            refusal=lambda endpoint: self.refused.get(endpoint.address),
            now=lambda: datetime.now(UTC),
        )
        operators = {}
        pacer = Pacer(self.limits, lambda host: ".".join(operators.get(host, host).split(".")[-2:]), lambda: 0.0)
        phase = PolicyPhase(self.ledger, steps, pacer, self.shard, self.stop, operators)
        out = asyncio.Queue()
        await asyncio.wait_for(phase.run(out), 20)
        return {policy.domain: policy.failure for policy in out._queue}

    def times(self, address):
        return [when for _, to, when in self.fetched if to == address]


async def test_every_domain_is_asked_once_at_its_first_address():
    world = World(
        {
            "mta-sts.a.example": {"A": at("192.0.2.2", "192.0.2.1"), "AAAA": at("2001:db8::1")},
            "mta-sts.b.example": {"AAAA": at("2001:db8::2")},
        }
    )
    assert await world.run() == {"a.example": None, "b.example": None}
    assert sorted(world.claimed) == [("a.example", "192.0.2.1"), ("b.example", "2001:db8::2")]


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ({}, PolicyFailure.NO_ADDRESS),
        ({"A": NONEXISTENT, "AAAA": NONEXISTENT}, PolicyFailure.NO_ADDRESS),
        ({"A": SERVFAIL, "AAAA": EMPTY}, PolicyFailure.DNS_ERROR),
        ({"A": Answer(AnswerStatus.NO_ANSWER, None)}, PolicyFailure.DNS_ERROR),
    ],
)
async def test_a_policy_host_without_an_address(answers, failure):
    world = World({"mta-sts.a.example": answers})
    assert await world.run() == {"a.example": failure}
    assert world.claimed == world.fetched == []


async def test_a_name_that_opted_out_is_not_even_looked_up():
    world = World(
        {"mta-sts.a.example": {"A": at("192.0.2.1")}, "mta-sts.b.example": {"A": at("192.0.2.2", name="gone.net")}},
        excluded={"mta-sts.a.example", "gone.net"},
    )
    assert await world.run() == dict.fromkeys(("a.example", "b.example"), PolicyFailure.EXCLUDED)
    assert world.looked_up == ["mta-sts.b.example"]
    assert world.fetched == []


async def test_addresses_are_checked_and_the_next_one_is_taken():
    refused = {"192.0.2.1": Reason.EXCLUDED, "192.0.2.2": Reason.SPECIAL_PURPOSE}
    world = World(
        {
            "mta-sts.a.example": {"A": at("192.0.2.1", "192.0.2.2", "192.0.2.3")},
            "mta-sts.b.example": {"A": at("192.0.2.1")},
            "mta-sts.c.example": {"A": at("192.0.2.1", "192.0.2.2")},
        },
        refused=refused,
    )
    assert await world.run() == {
        "a.example": None,
        "b.example": PolicyFailure.EXCLUDED,
        "c.example": PolicyFailure.SPECIAL_PURPOSE,
    }
    assert [to for _, to, _ in world.fetched] == ["192.0.2.3"]


async def test_addresses_are_checked_again_right_before_dialling():
    world = World({f"mta-sts.{n}.example": {"A": at("192.0.2.1")} for n in "ab"})
    world.limits = Limits(interval=0.2, rate=1000.0)
    fetch = world._fetch

    async def then_excluded(domain, address):
        world.refused["192.0.2.1"] = Reason.EXCLUDED
        return await fetch(domain, address)

    world._fetch = then_excluded
    assert sorted((await world.run()).values(), key=str) == [None, PolicyFailure.EXCLUDED]
    assert len(world.claimed) == len(world.fetched) == 1


async def test_one_address_is_asked_one_at_a_time_and_after_the_interval():
    limits = Limits(interval=0.2, rate=1000.0, per_operator=100)
    world = World({f"mta-sts.{n}.example": {"A": at("192.0.2.1")} for n in "abc"}, limits=limits, seconds=0.1)
    assert set((await world.run()).values()) == {None}
    first, second, third = world.times("192.0.2.1")
    assert min(second - first, third - second) >= 0.3  # from the end of one to the start of the next
    assert world.most == 1


async def test_policy_hosts_that_are_aliases_belong_to_one_operator():
    dns = {f"mta-sts.d{n}.example": {"A": at(f"192.0.2.{n}", name=f"p{n}.provider.net")} for n in range(6)}
    dns |= {f"mta-sts.e{n}.e{n}x": {"A": at(f"192.0.2.{100 + n}")} for n in range(6)}
    world = World(dns, limits=Limits(interval=0.05, rate=1000.0, per_operator=1), seconds=0.05)
    await world.run()
    theirs = sorted(when for name, _, when in world.fetched if name.startswith("d"))
    assert all(later - sooner >= 0.05 for sooner, later in pairwise(theirs))
    others = sorted(when for name, _, when in world.fetched if name.startswith("e"))
    assert others[-1] - others[0] < theirs[-1] - theirs[0]


async def test_policy_hosts_of_one_network_share_its_bound():
    dns = {f"mta-sts.d{n}.d{n}x": {"A": at(f"192.0.{n % 2}.{n}")} for n in range(8)}
    limits = Limits(interval=0.05, rate=1000.0, per_operator=100, per_prefix=1)
    world = World(dns, limits=limits, seconds=0.1)
    assert set((await world.run()).values()) == {None}
    assert world.most == 2
    for network in ("192.0.0.", "192.0.1."):
        times = sorted(when for _, address, when in world.fetched if address.startswith(network))
        assert len(times) == 4
        assert all(later - sooner >= 0.1 for sooner, later in pairwise(times))


@pytest.mark.parametrize("status", [429, 503])
async def test_an_address_that_asks_for_a_pause_is_left_alone(status):
    dns = {f"mta-sts.{n}.example": {"A": at("192.0.2.1")} for n in "abc"} | {
        "mta-sts.z.other": {"A": at("192.0.2.9")}
    }
    world = World(dns, status=dict.fromkeys(("a.example", "b.example", "c.example"), status))
    world.limits = Limits(interval=0.05, rate=1000.0)
    found = await world.run()
    assert found.pop("z.other") is None
    assert sorted(found.values()) == [PolicyFailure.PARKED, PolicyFailure.PARKED, PolicyFailure.STATUS]
    assert len(world.times("192.0.2.1")) == 1


async def test_an_address_of_an_earlier_run_is_held_back():
    world = World({"mta-sts.a.example": {"A": at("192.0.2.1")}}, limits=Limits(interval=5.0, rate=1000.0))
    world.held_back = {"192.0.2.1": datetime.now(UTC) + timedelta(seconds=0.4)}
    began = time.monotonic()
    await world.run()
    assert world.times("192.0.2.1")[0] - began >= 0.35


async def test_a_shard_asks_its_own_addresses_only():
    dns = {f"mta-sts.d{n}.example": {"A": at(f"192.0.2.{n}")} for n in range(20)}
    shards = [World(dns, shard=Shard(number, 2)) for number in (1, 2)]
    asked = [set(await world.run()) for world in shards]
    assert not asked[0] & asked[1]
    assert len(asked[0] | asked[1]) == 20
    assert all(asked)


async def test_told_to_stop_it_ends_and_leaves_the_rest():
    world = World({f"mta-sts.d{n}.example": {"A": at("192.0.2.1")} for n in range(5)})
    world.limits = Limits(interval=30.0, rate=1000.0)
    running = asyncio.create_task(world.run())
    await asyncio.wait_for(world.began.wait(), 10)
    world.stop.set()
    assert len(await running) == len(world.claimed) == 1
