"""The jobs that ask: some hundred domains routed, or one address contacted once.

A probe job makes at most one session, stores what it saw, and comes again for what is left: the interval later for
the next name, or when a refusal has passed. It never sleeps over an interval, so that it holds no place.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

from mxcensus.fleet.census import Census
from mxcensus.fleet.clock import Clock
from mxcensus.fleet.gate import Done, Go, Later, Refused, Stopped
from mxcensus.fleet.jobs import Again
from scanner import certificates
from scanner.ledger import Work
from scanner.pace import PARK_SECONDS, Tokens, is_refusal, says_blocked
from scanner.records import Observation, Reason, Status
from scanner.scan import Progress
from storage.due import unrouted

STALE_SECONDS = 5.0
"""A session that is so late for its claim does not begin: the process may have been asleep, and others awake."""

DRAIN_SECONDS = 10.0

ROUTING = 16
"""Route jobs that are asked at once: enough that a slow name holds nobody up, and few, so that what they store lies
together in the table. With as many as a worker has places PostgreSQL took half as much again to store them."""


@dataclass(slots=True)
class Counts(Progress):
    """What one worker has done; shown by `fleet status` and by its metrics. It works in several phases at once."""

    phase: str = ""
    sessions: int = 0


class Prober:
    """Does route and probe jobs for one worker; `census_of` gives the scan that a job belongs to."""

    def __init__(
        self, name: str, census_of: Callable[[int], Awaitable[Census]], clock: Clock, concurrency: int, rate: float
    ) -> None:
        self.counts = Counts()
        self._name = name
        self._census_of = census_of
        self._clock = clock
        self._sessions = asyncio.Semaphore(concurrency)
        self._routing = asyncio.Semaphore(ROUTING)
        self._lookups = asyncio.Semaphore(200)
        self._tokens = Tokens(rate)
        self._numbers = count(1)

    async def route(self, scan: int, first: int, last: int) -> None:
        """Resolve and store the domains whose order keys lie in a range."""
        census = await self._census_of(scan)

        async def resolve(domain: str) -> None:
            await census.writer.write(await census.steps.route(domain))
            self.counts.domains += 1

        async with self._routing:
            targets = await census.database.read(lambda connection: unrouted(connection, scan, first, last))
            async with asyncio.TaskGroup() as group:
                for target in targets:
                    await self._lookups.acquire()  # before there is a task, or each job would have one a domain
                    asked = group.create_task(resolve(target.domain))
                    asked.add_done_callback(lambda _: self._lookups.release())
        await census.writer.flush(hurry=False)

    async def probe(self, scan: int, address: str) -> None:
        """Make the next session of an address, if one may begin; raises `Again` while something is left."""
        census = await self._census_of(scan)
        holder = f"{self._name} {next(self._numbers)}"
        async with self._sessions:
            await self._take_token()
            admission = await census.gate.ask(holder, address)
            if not isinstance(admission, Go):
                self._tokens.level += 1
            match admission:
                case Done():
                    return
                case Later(at, parked):
                    raise Again(at, f"parked:{scan}" if parked else f"probe:{scan}")
                case Stopped(works):
                    for work in works:
                        await census.ledger.park(work, Reason.OPERATOR_STOPPED)
                    return
                case Refused(endpoint, reason):  # the next turn sees what is left
                    await census.ledger.enroll([(endpoint, reason)])
                    raise Again(self._clock.seconds())
            again = await self._session(census, holder, admission)
        await census.writer.flush(hurry=False)
        if again is not None:
            raise again

    async def _session(self, census: Census, holder: str, go: Go) -> Again | None:
        """One session at its time; when the job has to come again, if at all."""
        observation = None
        self.counts.in_flight += 1
        try:
            await asyncio.sleep(max(0.0, go.start - self._clock.seconds()))
            if self._clock.seconds() - go.start > STALE_SECONDS:
                raise Again(self._clock.seconds() + census.longest + census.plan.scan.limits.interval)
            observation = await census.steps.probe(go.work.endpoint, go.work.attempt)
            again = await self._heed(census, go, observation)
            await self._hand_on(census, observation)
            return again
        finally:
            self.counts.in_flight -= 1
            blocked = observation is not None and says_blocked(observation)
            with suppress(asyncio.TimeoutError):  # a worker that is told to end must not wait for the database
                async with asyncio.timeout(DRAIN_SECONDS if observation is None else None):
                    await census.gate.leave(holder, go.operator, blocked=blocked)

    async def _hand_on(self, census: Census, observation: Observation) -> None:
        self.counts.sessions += 1
        for der in observation.certificate_list:
            if census.first_seen(der):
                await census.writer.write(certificates.parse(der))
        await census.writer.write(observation)

    async def _heed(self, census: Census, go: Go, observation: Observation) -> Again | None:
        """Park the address after a refusal, before that can be stored without it; when to come again, if at all."""
        limits, now = census.plan.scan.limits, self._clock.seconds()
        waiting = list(go.rest)
        if not is_refusal(observation):
            return Again(now + limits.interval, f"probe:{census.scan}") if waiting else None
        if observation.status is not Status.MEASURED and go.work.attempt < limits.max_attempts:
            waiting.append(replace(go.work, attempt=go.work.attempt + 1))
        pause = PARK_SECONDS[min(go.refusals, len(PARK_SECONDS) - 1)]
        until = now + pause * (1 + census.steps.jitter() / 4)
        for work in waiting:
            await census.ledger.park(_parked(work, until), Reason.PARKED)
        return Again(until, f"parked:{census.scan}") if waiting else None

    async def _take_token(self) -> None:
        """Wait until this process may begin another session, as its rate allows."""
        self._tokens.refill(self._clock.seconds())
        while pause := self._tokens.wait(self._clock.seconds()):
            await asyncio.sleep(pause)
            self._tokens.refill(self._clock.seconds())
        self._tokens.level -= 1


def _parked(work: Work, until: float) -> Work:
    return replace(work, not_before=datetime.fromtimestamp(until, UTC))
