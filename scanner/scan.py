"""Joins the steps: targets in, records out, each endpoint once.

Phases follow one another, because the second needs all of the first: which names of an address are contacted is
drawn among all names that lead to it.

1. route: every target that has no routing yet is resolved                         -> MailRouting
2. select: every address, or a sample of them, its names drawn by the seed, opt-outs and caps applied -> the ledger
3. probe: what the ledger has pending, as the pacer allows                         -> Certificate, Observation
4. policies, if asked for: what `scanner.policy_phase` fetches                     -> StsPolicy

`scan` yields records and stores nothing; the ledger says what is still to do, so the same call begins a scan and
resumes one.
"""

import asyncio
import contextlib
import hashlib
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from scanner import certificates, sampling
from scanner.in_flight import InFlight
from scanner.ledger import Ledger, Record, Work, order_key
from scanner.pace import Limits, Pacer, means_blocked
from scanner.policy_phase import PolicyPhase, PolicySteps
from scanner.records import Endpoint, MailRouting, Observation, Reason, Target
from scanner.shards import Shard

Route = Callable[[str], Awaitable[MailRouting]]
Probe = Callable[[Endpoint, int], Awaitable[Observation]]
Refusal = Callable[[Endpoint], Reason | None]

ROUTE_BATCH = 1000
ENROLL_BATCH = 1000
WINDOW = 10_000
"""How much pending work the pacer holds, so that many operators are at hand to choose from."""

KNOWN_CERTIFICATES = 100_000


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What `scan` needs to know; how a name is routed and an endpoint probed comes in as functions."""

    seed: int
    port: int = 25
    names_per_address: int = 3
    sample: int | None = None  # about how many addresses are contacted; None for all
    lookups_in_flight: int = 200
    limits: Limits = field(default_factory=Limits)
    shard: Shard | None = None  # only its addresses are contacted; every domain is resolved


@dataclass(slots=True)
class Progress:
    """Where a scan stands; written by `scan`, read by whoever shows it. Counts of this run."""

    phase: str = "route"
    domains: int = 0
    endpoints: int = 0
    in_flight: int = 0
    parked: int = 0
    stopped_operators: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Steps:
    """The functions that the steps are made of."""

    route: Route
    probe: Probe
    refusal: Refusal
    operator_of: Callable[[str], str]
    now: Callable[[], datetime]
    jitter: Callable[[], float]
    policies: PolicySteps | None = None  # None: MTA-STS policies are not fetched


async def scan(
    ledger: Ledger, settings: ScanSettings, steps: Steps, stop: asyncio.Event, progress: Progress
) -> AsyncGenerator[Record, None]:
    """Do what the ledger still has to do; ends early, with nothing lost, once `stop` is set.

    The consumer must have handed on each record before it asks for the next: `ledger.settle()` relies on it.
    """
    async with contextlib.aclosing(survey(ledger, settings, steps, stop, progress)) as records:
        async for record in records:
            yield record
    if stop.is_set():
        return
    run = _Run(ledger, settings, steps, stop, progress)
    progress.phase = "probe"
    async with contextlib.aclosing(_stream(ledger, run.probe)) as records:
        async for record in records:
            yield record
    if steps.policies is None or stop.is_set():
        return
    progress.phase = "policies"
    async with contextlib.aclosing(_stream(ledger, run.fetch_policies)) as records:
        async for record in records:
            yield record


async def survey(
    ledger: Ledger, settings: ScanSettings, steps: Steps, stop: asyncio.Event, progress: Progress
) -> AsyncGenerator[Record, None]:
    """The first two phases, which contact nobody but resolvers: afterwards the ledger has all endpoints."""
    run = _Run(ledger, settings, steps, stop, progress)
    progress.phase = "route"
    async with contextlib.aclosing(_stream(ledger, run.route)) as records:
        async for record in records:
            yield record
    if stop.is_set():
        return
    progress.phase = "select"
    await run.select()


_Out = asyncio.Queue[Record | None]


async def _stream(ledger: Ledger, produce: Callable[[_Out], Awaitable[None]]) -> AsyncGenerator[Record, None]:
    """The records that `produce` puts out, and its exception if it ends with one; the ledger is told of all.

    To be closed by whoever stops early: the loop would only get to it when it ends itself, and complain.
    """
    out: _Out = asyncio.Queue(maxsize=1000)

    async def run() -> None:
        try:
            await produce(out)
        finally:
            await out.put(None)

    task = asyncio.ensure_future(run())
    try:
        while (record := await out.get()) is not None:
            await ledger.note(record)
            yield record
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await ledger.settle()


def select_names(
    address: str, hosts: Sequence[str], settings: ScanSettings, refusal: Refusal
) -> list[tuple[Endpoint, Reason | None]]:
    """The endpoints of one address: at most `names_per_address` without a reason, drawn by the seed."""
    selected: list[tuple[Endpoint, Reason | None]] = []
    tested = 0
    for host in sorted(hosts, key=lambda host: order_key(settings.seed, f"{address} {host}")):
        endpoint = Endpoint(host, address, settings.port)
        reason = refusal(endpoint)
        if reason is None:
            tested += 1
            if tested > settings.names_per_address:
                reason = Reason.ADDRESS_CAP
        selected.append((endpoint, reason))
    return selected


def _any_allowed(selected: Iterable[tuple[Endpoint, Reason | None]]) -> bool:
    return any(reason is None for _, reason in selected)


@dataclass(slots=True)
class _Run:
    """The three phases over one set of arguments."""

    ledger: Ledger
    settings: ScanSettings
    steps: Steps
    stop: asyncio.Event
    progress: Progress
    pacer: Pacer = field(init=False)
    aliases: dict[str, str] = field(default_factory=dict)  # policy host -> what it is an alias of

    def __post_init__(self) -> None:
        self.pacer = Pacer(self.settings.limits, self._operator_of, self.steps.jitter)

    def _operator_of(self, host: str) -> str:
        return self.steps.operator_of(self.aliases.get(host, host))

    async def route(self, out: _Out) -> None:
        batch: list[Target] = []
        refill = asyncio.Lock()
        exhausted = asyncio.Event()  # asked once, not by every worker: the answer may mean to look at every domain

        async def worker() -> None:
            while not self.stop.is_set():
                async with refill:
                    if not batch and not exhausted.is_set():
                        batch.extend(reversed(await self.ledger.unrouted(ROUTE_BATCH)))
                    if not batch:
                        exhausted.set()
                        return
                    target = batch.pop()
                await out.put(await self.steps.route(target.domain))
                self.progress.domains += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(self.settings.lookups_in_flight):
                group.create_task(worker())

    async def select(self) -> None:
        batch: list[tuple[Endpoint, Reason | None]] = []
        sampled = None if self.settings.sample is None else await self._sampled(self.settings.sample)
        shard = self.settings.shard
        async for address, hosts in self.ledger.addresses():
            if shard is not None and not shard.holds(address):
                continue
            selected = select_names(address, hosts, self.settings, self.steps.refusal)
            if sampled is not None and address not in sampled and _any_allowed(selected):
                selected = [(endpoint, Reason.NOT_SAMPLED) for endpoint, _ in selected]
            batch.extend(selected)
            if len(batch) >= ENROLL_BATCH:
                await self.ledger.enroll(batch)
                batch = []
        await self.ledger.enroll(batch)

    async def _sampled(self, size: int) -> frozenset[str]:
        """The addresses of the sample: the one that was drawn before, if any, else about `size` drawn now."""
        sample = await self.ledger.sample()
        if sample is None:
            sample = sampling.draw([candidate async for candidate in self._candidates()], size, self.settings.seed)
            await self.ledger.keep_sample(sample)
        return frozenset(drawn.address for drawn in sample.addresses)

    async def _candidates(self) -> AsyncIterator[sampling.Candidate]:
        """Every address that may be contacted under some name, with the largest operator that has a name on it."""
        domains = await self.ledger.host_domains()
        sizes: Counter[str] = Counter()
        for host, count in domains.items():
            sizes[self.steps.operator_of(host)] += count
        async for address, hosts in self.ledger.addresses():
            if _any_allowed(select_names(address, hosts, self.settings, self.steps.refusal)):
                operator = max(
                    {self.steps.operator_of(host) for host in hosts}, key=lambda name: (sizes[name], name)
                )
                yield sampling.Candidate(address, operator, sum(domains.get(host, 0) for host in hosts))

    async def probe(self, out: _Out) -> None:
        pacer = self.pacer
        for host, times in (await self.ledger.refusals(means_blocked)).items():
            pacer.recall(host, times)
        attempt = _Attempts(self, pacer, out)
        more = True
        async with asyncio.TaskGroup() as group:
            under_way = InFlight(group, self.stop, self.clock)
            while not self.stop.is_set():
                if more and pacer.waiting < WINDOW:
                    more = await self._offer(pacer, WINDOW - pacer.waiting)
                ready = await self._still_allowed(pacer, pacer.take(self.clock()))
                if ready:
                    await self.ledger.claim(ready, self.steps.now())
                    for work in ready:
                        under_way.start(attempt(work))
                self.progress.in_flight, self.progress.parked = len(under_way), pacer.waiting
                if not under_way and not more and pacer.all_parked(self.clock()):
                    break
                await under_way.sleep_until(pacer.wake_at(self.clock()))
            await under_way.wind_up()  # the claims of those that are cut off stay

    async def fetch_policies(self, out: _Out) -> None:
        """The last phase; what its servers are owed for sessions they are owed for fetches too."""
        assert self.steps.policies is not None
        self.pacer.drop_waiting()
        phase = PolicyPhase(
            self.ledger, self.steps.policies, self.pacer, self.settings.shard, self.stop, self.aliases
        )
        await phase.run(out)

    def clock(self) -> float:
        """Seconds since the epoch."""
        return self.steps.now().timestamp()

    def note_stopped(self, mx_host: str) -> None:
        """Work of this host is not done; its operator is named if it is the one that stopped."""
        if self.pacer.has_stopped(mx_host):
            self.progress.stopped_operators.add(self.steps.operator_of(mx_host))

    async def _offer(self, pacer: Pacer, limit: int) -> bool:
        """Hand pending work to the pacer; False when there is none left."""
        works = await self.ledger.pending(limit)
        for work in works:
            reason = pacer.offer(work, self.clock())
            if reason is not None:
                self.note_stopped(work.endpoint.mx_host)
                await self.ledger.park(work, reason)
        return bool(works)

    async def _still_allowed(self, pacer: Pacer, ready: Sequence[Work]) -> Sequence[Work]:
        """Opt-outs and address checks once more, on the address that is about to be dialled."""
        allowed = []
        for work in ready:
            reason = self.steps.refusal(work.endpoint)
            if reason is None:
                allowed.append(work)
            else:
                pacer.abandon(work, self.clock())
                await self.ledger.enroll([(work.endpoint, reason)])
        return allowed


class _Attempts:
    """One session after another: what each yields, and what its end means for work that waits."""

    def __init__(self, run: _Run, pacer: Pacer, out: _Out) -> None:
        self._run = run
        self._pacer = pacer
        self._out = out
        self._first_seen = FirstSeen(KNOWN_CERTIFICATES)

    async def __call__(self, work: Work) -> None:
        run = self._run
        observation = await run.steps.probe(work.endpoint, work.attempt)
        aftermath = self._pacer.heed(work, observation, run.clock())
        # A pause is committed before the refusal that it follows from can be, so that none is stored without it. A
        # refusal that is lost after its pause is a session without a row: that is repeated.
        for parked in aftermath.parked:
            await run.ledger.park(parked, Reason.PARKED)
        for der in observation.certificate_list:
            if self._first_seen(der):
                await self._out.put(certificates.parse(der))
        await self._out.put(observation)
        self._pacer.abandon(work, run.clock())  # only now: where the writer cannot follow, nothing new begins
        run.progress.endpoints += 1
        for stopped in aftermath.stopped:
            run.note_stopped(stopped.endpoint.mx_host)
            await run.ledger.park(stopped, Reason.OPERATOR_STOPPED)


class FirstSeen:
    """Certificates that this run has not yielded lately; parsing and storing once per SHA-256 is enough."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __call__(self, der: bytes) -> bool:
        digest = hashlib.sha256(der).digest()
        known = digest in self._known
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return not known
