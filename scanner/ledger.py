"""What a scan has seen, claimed, parked and still has to do.

`Ledger` is the protocol that `scan` works against. `MemoryLedger` is its default, good for one process that
is not resumed; `storage.ledger.SqlLedger` is durable and is injected by the composition root. All work comes
out in the order of a seeded hash, so that a resumed scan goes on in the same order without a stored list.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from scanner.policy_records import StsPolicy, StsRecord
from scanner.records import Certificate, Endpoint, MailRouting, Observation, Reason, Stage, Target

Record = MailRouting | Certificate | Observation | StsPolicy
"""What `scan` yields."""


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt that is still to be made; `not_before` (aware UTC) holds it back, None means any time."""

    endpoint: Endpoint
    attempt: int
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stratum:
    """Clusters that are alike in size: `drawn` of its `clusters` are in the sample, each equally likely."""

    clusters: int
    drawn: int
    addresses: int  # of all its clusters


@dataclass(frozen=True, slots=True)
class SampledAddress:
    """One address of a sample: its stratum (an index), its cluster (a number in the sample), its probability."""

    address: str
    stratum: int
    cluster: int
    probability: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The addresses that a scan contacts in place of all, and what is needed to tell of all from them."""

    strata: tuple[Stratum, ...]
    addresses: tuple[SampledAddress, ...]


def order_key(seed: int, text: str) -> int:
    """A signed 64-bit pseudo-random rank of `text`: the order of work, and the draw of names per address."""
    digest = hashlib.blake2b(text.encode(), key=str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Ledger(Protocol):
    """Durable or not, the same promises: nothing settled is lost, and nothing claimed is handed out twice."""

    async def add_targets(self, targets: Iterable[Target]) -> None:
        """Enter targets; a domain entered twice has its weights added and its smallest rank kept."""

    async def unrouted(self, limit: int) -> Sequence[Target]:
        """The next targets without routing, each handed out once per run; empty when there is none left."""

    async def note(self, record: Record) -> None:
        """Learn of a record that `scan` yields. A ledger that reads what the writer stored has nothing to do."""

    async def settle(self) -> None:
        """Return when every record yielded so far is stored and visible to this ledger."""

    def addresses(self) -> AsyncIterator[tuple[str, Sequence[str]]]:
        """Every address that routing led to, once, with all its MX host names, sorted; call after `settle`."""

    async def host_domains(self) -> Mapping[str, int]:
        """MX host -> how many domains name it; call after `settle`. Held in memory: only a sample needs it."""

    async def sample(self) -> Sample | None:
        """The sample of the scan, None where none was kept."""

    async def keep_sample(self, sample: Sample) -> None:
        """Keep the sample, whole or not at all: a resumed scan goes on with it."""

    async def enroll(self, endpoints: Iterable[tuple[Endpoint, Reason | None]]) -> None:
        """Enter endpoints; one with a reason is not going to be tested.

        Entering one again changes nothing, except that a new exclusion holds for what was not yet attempted.
        """

    async def pending(self, limit: int) -> Sequence[Work]:
        """The next work that was not handed out in this run, in seeded order.

        An endpoint claimed by an earlier run without a result comes back as its next attempt, with `not_before`
        set by the interval.
        """

    async def refusals(self, means: Callable[[Stage, str], bool]) -> Mapping[str, int]:
        """How often `means` holds of the negative replies that earlier runs stored, by MX host."""

    async def claim(self, works: Sequence[Work], now: datetime) -> None:
        """Commit the intent to contact; returns only when it is durable. Called before dialling."""

    async def park(self, work: Work, reason: Reason) -> None:
        """Put work off until `work.not_before`; with `OPERATOR_STOPPED` for good."""

    async def policies(self, limit: int) -> Sequence[str]:
        """The next domains whose MTA-STS policy is to be fetched, each handed out once per run."""

    async def claim_policies(self, fetches: Sequence[tuple[str, str]], now: datetime) -> None:
        """Commit the intent to fetch from (domain, address); returns only when it is durable."""

    async def held_back(self) -> Mapping[str, datetime]:
        """Addresses that earlier runs left less than an interval ago, and when they may be contacted again."""


class MemoryLedger:
    """The ledger of a scan that lives as long as its process."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._targets: dict[str, Target] = {}
        self._queue: list[Target] | None = None
        self._hosts: dict[str, set[str]] = defaultdict(set)
        self._domains: Counter[str] = Counter()
        self._sample: Sample | None = None
        self._work: dict[Endpoint, Work] = {}
        self._handed_out: set[Endpoint] = set()
        self.not_tested: dict[Endpoint, Reason] = {}
        self._policies: list[str] = []

    async def add_targets(self, targets: Iterable[Target]) -> None:
        for target in targets:
            self._targets[target.domain] = merge_targets(self._targets.get(target.domain), target)

    async def unrouted(self, limit: int) -> Sequence[Target]:
        if self._queue is None:
            self._queue = sorted(self._targets.values(), key=lambda t: order_key(self._seed, t.domain))
            self._queue.reverse()
        batch = self._queue[-limit:][::-1]
        del self._queue[-limit:]
        return batch

    async def note(self, record: Record) -> None:
        if isinstance(record, MailRouting):
            self._domains.update({mx.host for mx in record.mx})
            for mx in record.mx:
                for address in mx.addresses:
                    self._hosts[address].add(mx.host)
            if record.mta_sts is not None and record.mta_sts.record is StsRecord.VALID:
                self._policies.append(record.domain)
        elif isinstance(record, Observation):
            self._work.pop(record.endpoint, None)

    async def settle(self) -> None:
        return None

    async def addresses(self) -> AsyncIterator[tuple[str, Sequence[str]]]:
        for address, hosts in sorted(self._hosts.items()):
            yield address, sorted(hosts)

    async def host_domains(self) -> Mapping[str, int]:
        return self._domains

    async def sample(self) -> Sample | None:
        return self._sample

    async def keep_sample(self, sample: Sample) -> None:
        self._sample = sample

    async def enroll(self, endpoints: Iterable[tuple[Endpoint, Reason | None]]) -> None:
        for endpoint, reason in endpoints:
            if reason is not None:
                self.not_tested[endpoint] = reason
            elif endpoint not in self._work:
                self._work[endpoint] = Work(endpoint, 1)

    async def pending(self, limit: int) -> Sequence[Work]:
        fresh = [work for work in self._work.values() if work.endpoint not in self._handed_out]
        fresh.sort(key=lambda w: order_key(self._seed, f"{w.endpoint.address} {w.endpoint.mx_host}"))
        self._handed_out.update(work.endpoint for work in fresh[:limit])
        return fresh[:limit]

    async def refusals(self, _means: Callable[[Stage, str], bool]) -> Mapping[str, int]:
        return {}

    async def claim(self, _works: Sequence[Work], _now: datetime) -> None:
        return None

    async def park(self, work: Work, reason: Reason) -> None:
        self._work[work.endpoint] = work
        self.not_tested.setdefault(work.endpoint, reason)

    async def policies(self, limit: int) -> Sequence[str]:
        batch, self._policies = self._policies[:limit], self._policies[limit:]
        return batch

    async def claim_policies(self, _fetches: Sequence[tuple[str, str]], _now: datetime) -> None:
        return None

    async def held_back(self) -> Mapping[str, datetime]:
        return {}


def merge_targets(old: Target | None, new: Target) -> Target:
    """Two mentions of a domain: weights add, the better rank stays."""
    if old is None:
        return new
    weights = [t.weight for t in (old, new) if t.weight is not None]
    ranks = [t.rank for t in (old, new) if t.rank is not None]
    return replace(new, weight=sum(weights) if weights else None, rank=min(ranks, default=None))
