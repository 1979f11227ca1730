"""Connections that are planned one by one: each made once, spaced like any other, never tried again.

Experiments and second looks are made of these. How a session is made comes in as a function.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scanner.ledger import Work
from scanner.pace import Limits, Pacer
from scanner.records import Endpoint, Observation, Reason

GRACE_SECONDS = 5.0
IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One connection that is to be made: `variant` says how; `not_before` (aware UTC) holds it back."""

    endpoint: Endpoint
    variant: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a planned connection: an observation, or the reason why there is none."""

    planned: Planned
    observation: Observation | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """The functions that planned connections are made with."""

    probe: Callable[[Endpoint, str], Awaitable[Observation]]
    refusal: Callable[[Endpoint], Reason | None]
    operator_of: Callable[[str], str]
    now: Callable[[], datetime]
    jitter: Callable[[], float]


async def connections(
    planned: Sequence[Planned], limits: Limits, steps: Steps, stop: asyncio.Event
) -> AsyncGenerator[Ended, None]:
    """Make each connection once, as the pacer allows, and say how each ended.

    What waits on an address that asked for a pause, or on an operator that says that we are blocked, is not made;
    nor is the rest once `stop` is set, after a moment for sessions under way.
    """
    run = _Run(planned, limits, steps)
    try:
        while not stop.is_set() and not run.over():
            for ended in run.start_ready():
                yield ended
            for ended in await run.ended(stop):
                yield ended
        for ended in await run.wind_up():
            yield ended
    finally:
        for task in run.tasks:
            task.cancel()
    for ended in run.left(Reason.INTERRUPTED if stop.is_set() else Reason.PARKED):
        yield ended


class _Run:
    """The connections under way and those that wait: a `Work` each, whose attempt is its place in the plan."""

    def __init__(self, planned: Sequence[Planned], limits: Limits, steps: Steps) -> None:
        self.tasks: dict[asyncio.Task[Observation], tuple[Work, Planned]] = {}
        self._steps = steps
        self._pacer = Pacer(replace(limits, max_attempts=0), steps.operator_of, steps.jitter)
        self._waiting = dict(enumerate(planned, 1))
        self._stopped: set[int] = set()
        for place, one in self._waiting.items():
            self._pacer.offer(Work(one.endpoint, place, one.not_before), self._clock())

    def over(self) -> bool:
        return not self.tasks and (not self._pacer.waiting or self._pacer.all_parked(self._clock()))

    def start_ready(self) -> list[Ended]:
        """Begin what may begin now; what an opt-out forbids after all comes back."""
        refused = []
        for work in self._pacer.take(self._clock()):
            one = self._waiting.pop(work.attempt)
            reason = self._steps.refusal(work.endpoint)
            if reason is None:
                self.tasks[asyncio.ensure_future(self._steps.probe(one.endpoint, one.variant))] = work, one
            else:
                self._pacer.abandon(work, self._clock())
                refused.append(Ended(one, reason=reason))
        return refused

    async def ended(self, stop: asyncio.Event) -> list[Ended]:
        """Wait until a session ends, something may begin, or `stop` is set; the sessions that ended."""
        wake_at = self._pacer.wake_at(self._clock())
        pause = IDLE_SECONDS if wake_at is None else min(IDLE_SECONDS, max(0.0, wake_at - self._clock()))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({*self.tasks, stopping}, timeout=pause, return_when="FIRST_COMPLETED")
        finally:
            stopping.cancel()
        return [self._finish(task) for task in list(self.tasks) if task in done]

    async def wind_up(self) -> list[Ended]:
        """Let sessions under way end by themselves for a moment, then cut them off."""
        if not self.tasks:
            return []
        done, late = await asyncio.wait(self.tasks, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        cut = [Ended(self.tasks.pop(task)[1], reason=Reason.INTERRUPTED) for task in late]
        return [*(self._finish(task) for task in done), *cut]

    def left(self, reason: Reason) -> list[Ended]:
        """What was not begun."""
        return [
            Ended(one, reason=Reason.OPERATOR_STOPPED if place in self._stopped else reason)
            for place, one in self._waiting.items()
        ]

    def _finish(self, task: asyncio.Task[Observation]) -> Ended:
        work, one = self.tasks.pop(task)
        observation = task.result()
        aftermath = self._pacer.finish(work, observation, self._clock())
        self._stopped.update(stopped.attempt for stopped in aftermath.stopped)
        return Ended(one, observation)

    def _clock(self) -> float:
        return self._steps.now().timestamp()
