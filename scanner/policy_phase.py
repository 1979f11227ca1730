"""The last phase of a scan that was asked for it: fetch the MTA-STS policy of every domain that has a record.

A policy host is a stranger's server like any other: opt-outs and special-purpose addresses are checked, on the name
before it is looked up and on the address right before it is dialled, and the pacer that spaced the SMTP sessions
spaces these connections too. A policy is asked for once; an address that asks for a pause is left alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from scanner import mta_sts
from scanner.in_flight import InFlight
from scanner.ledger import Ledger, Record, Work
from scanner.pace import Pacer
from scanner.policy_records import PolicyFailure, StsPolicy
from scanner.records import Answer, AnswerStatus, Endpoint, Reason
from scanner.shards import Shard

BATCH = 200
"""Policy hosts that are looked up together."""
WINDOW = 2000

_REASONS = {
    Reason.EXCLUDED: PolicyFailure.EXCLUDED,
    Reason.SPECIAL_PURPOSE: PolicyFailure.SPECIAL_PURPOSE,
    Reason.OPERATOR_STOPPED: PolicyFailure.OPERATOR_STOPPED,
}
_GOOD = frozenset({AnswerStatus.OK, AnswerStatus.NODATA, AnswerStatus.NXDOMAIN})


class Fetch(Protocol):
    """Fetches the policy of a domain from an address; never raises."""

    def __call__(self, domain: str, address: str) -> Awaitable[StsPolicy]: ...


@dataclass(frozen=True, slots=True)
class PolicySteps:
    """The functions that the phase is made of. `excluded` is asked about the policy host's name."""

    lookup: Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Answer]]]
    fetch: Fetch
    excluded: Callable[[str], bool]
    refusal: Callable[[Endpoint], Reason | None]
    now: Callable[[], datetime]
    port: int = 443


@dataclass(slots=True)
class PolicyPhase:
    """One run of the phase; `pacer` is the scan's, with no work of its own left in it.

    `operators` is shared with the pacer's `operator_of`: a policy host that is an alias belongs to the operator of
    what it is an alias of.
    """

    ledger: Ledger
    steps: PolicySteps
    pacer: Pacer
    shard: Shard | None
    stop: asyncio.Event
    operators: dict[str, str] = field(default_factory=dict)
    _paused: set[str] = field(default_factory=set)

    async def run(self, out: "asyncio.Queue[Record | None]") -> None:
        """Put out a policy for every domain that is due."""
        more = True
        async with asyncio.TaskGroup() as group:
            under_way = InFlight(group, self.stop, self._clock)
            while not self.stop.is_set():
                if more and self.pacer.waiting < WINDOW:
                    more = await self._offer(out)
                ready = [work for work in self.pacer.take(self._clock()) if await self._allowed(work, out)]
                if ready:
                    now = self.steps.now()
                    fetches = [(_domain(work), work.endpoint.address) for work in ready]
                    await self.ledger.claim_policies(fetches, now)
                    for work in ready:
                        under_way.start(self._fetch(work, out))
                if not under_way and not more and self.pacer.all_parked(self._clock()):
                    break
                await under_way.sleep_until(self.pacer.wake_at(self._clock()))
            await under_way.wind_up()

    async def _offer(self, out: "asyncio.Queue[Record | None]") -> bool:
        """Look up the next policy hosts and hand them to the pacer; False when there is none left."""
        domains = await self.ledger.policies(BATCH)
        hosts = {domain: mta_sts.policy_host(domain) for domain in domains}
        asked = [domain for domain in domains if not self.steps.excluded(hosts[domain])]
        questions = [(hosts[domain], rdtype) for domain in asked for rdtype in ("A", "AAAA")]
        answers = iter(await self.steps.lookup(questions) if questions else ())
        found = {domain: (next(answers), next(answers)) for domain in asked}
        held_back = await self.ledger.held_back()
        for domain in domains:
            failure = PolicyFailure.EXCLUDED
            address = None
            if domain in found:
                address, failure = self._choose(hosts[domain], found[domain])
            if address is None:
                await out.put(self._not_fetched(domain, failure))
            elif self.shard is None or self.shard.holds(address):
                endpoint = Endpoint(hosts[domain], address, self.steps.port)
                ends = {answer.canonical_name for answer in found[domain]} - {"", hosts[domain]}
                if ends:
                    self.operators[hosts[domain]] = min(ends)
                reason = self.pacer.offer(Work(endpoint, 1, held_back.get(address)), self._clock())
                self.operators.pop(hosts[domain], None)
                if reason is not None:
                    await out.put(self._not_fetched(domain, _REASONS[reason]))
        return bool(domains)

    def _choose(self, host: str, answers: Sequence[Answer]) -> tuple[str | None, PolicyFailure]:
        """The first address that may be contacted, IPv4 first; or None and why."""
        names = {answer.canonical_name for answer in answers} - {""}
        if any(self.steps.excluded(name) for name in names):
            return None, PolicyFailure.EXCLUDED
        addresses = [str(address) for answer in answers for address in sorted(map(str, answer.data))]
        if not addresses:
            known = all(answer.status in _GOOD for answer in answers)
            return None, PolicyFailure.NO_ADDRESS if known else PolicyFailure.DNS_ERROR
        failure = PolicyFailure.SPECIAL_PURPOSE
        for address in addresses:
            reason = self.steps.refusal(Endpoint(host, address, self.steps.port))
            if reason is None:
                return address, failure
            failure = _REASONS[reason]
        return None, failure

    async def _allowed(self, work: Work, out: "asyncio.Queue[Record | None]") -> bool:
        """Opt-outs and address checks once more, on the address that is about to be dialled."""
        reason = self.steps.refusal(work.endpoint)
        if reason is None and work.endpoint.address not in self._paused:
            return True
        self.pacer.abandon(work, self._clock())
        failure = PolicyFailure.PARKED if reason is None else _REASONS[reason]
        await out.put(self._not_fetched(_domain(work), failure))
        return False

    async def _fetch(self, work: Work, out: "asyncio.Queue[Record | None]") -> None:
        try:
            policy = await self.steps.fetch(_domain(work), work.endpoint.address)
            await out.put(policy)
        finally:
            self.pacer.abandon(work, self._clock())
        if mta_sts.asks_for_pause(policy):
            self._paused.add(work.endpoint.address)

    def _not_fetched(self, domain: str, failure: PolicyFailure) -> StsPolicy:
        return StsPolicy(domain, self.steps.now(), failure)

    def _clock(self) -> float:
        return self.steps.now().timestamp()


def _domain(work: Work) -> str:
    return work.endpoint.mx_host.removeprefix("mta-sts.")
