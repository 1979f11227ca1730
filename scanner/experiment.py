"""Client certificates tried on servers: one connection a variant, spaced like any other, in a seeded random order.

    endpoints x variants -> draw -> pacer -> session -> Trial

A server is never spoken to but by EHLO, STARTTLS and QUIT; AUTH is never sent, whatever it offers. How a session is
made comes in as a function, so that this module knows neither files nor databases.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scanner.ledger import Work, order_key
from scanner.pace import Limits, Pacer
from scanner.records import Endpoint, Failure, Observation, Reason, Stage
from scanner.trials import Outcome, Trial

CONTROL = "none"
"""The variant without a certificate: what the others are compared with."""

GRACE_SECONDS = 5.0
IDLE_SECONDS = 1.0

_AFTER_HELLO = frozenset({Stage.HANDSHAKE, Stage.EHLO_AFTER_TLS})


@dataclass(frozen=True, slots=True)
class Planned:
    """One connection that is to be made."""

    endpoint: Endpoint
    variant: str


@dataclass(frozen=True, slots=True)
class Steps:
    """The functions that an experiment is made of."""

    probe: Callable[[Endpoint, str], Awaitable[Observation]]
    refusal: Callable[[Endpoint], Reason | None]
    operator_of: Callable[[str], str]
    now: Callable[[], datetime]
    jitter: Callable[[], float]


def every(endpoints: Iterable[Endpoint], variants: Sequence[str], seed: int) -> list[Planned]:
    """Every variant at every endpoint, in the order of a seeded hash; for machines of one's own."""
    planned = [Planned(endpoint, variant) for endpoint in endpoints for variant in variants]
    return sorted(planned, key=lambda one: _rank(seed, one))


def one_a_host(endpoints: Iterable[Endpoint], variants: Sequence[str], seed: int) -> list[Planned]:
    """One connection a host, address and variant drawn by the seed; for machines of others."""
    drawn: dict[str, Planned] = {}
    for one in every(endpoints, variants, seed):
        drawn.setdefault(one.endpoint.mx_host, one)
    return list(drawn.values())


def _rank(seed: int, one: Planned) -> int:
    return order_key(seed, f"{one.endpoint.address} {one.endpoint.port} {one.endpoint.mx_host} {one.variant}")


async def experiment(
    planned: Sequence[Planned], limits: Limits, steps: Steps, stop: asyncio.Event
) -> AsyncGenerator[Trial, None]:
    """Make each connection once, as the pacer allows; nothing is tried again.

    What waits on an address that asked for a pause, or on an operator that says that we are blocked, ends as not
    tested; so does the rest once `stop` is set, after a moment for sessions under way.
    """
    run = _Run(planned, limits, steps)
    try:
        while not stop.is_set() and not run.over():
            for trial in run.start_ready():
                yield trial
            for trial in await run.ended(stop):
                yield trial
        for trial in await run.wind_up():
            yield trial
    finally:
        for task in run.tasks:
            task.cancel()
    for trial in run.left(Reason.INTERRUPTED if stop.is_set() else Reason.PARKED):
        yield trial


class _Run:
    """The connections of one experiment: a `Work` each, whose attempt is its place in the plan, from 1."""

    def __init__(self, planned: Sequence[Planned], limits: Limits, steps: Steps) -> None:
        self.tasks: dict[asyncio.Task[Observation], Work] = {}
        self._steps = steps
        self._pacer = Pacer(replace(limits, max_attempts=0), steps.operator_of, steps.jitter)
        self._waiting = dict(enumerate(planned, 1))
        self._stopped: set[int] = set()
        for place, one in self._waiting.items():
            self._pacer.offer(Work(one.endpoint, place), self._clock())

    def over(self) -> bool:
        return not self.tasks and (not self._pacer.waiting or self._pacer.all_parked(self._clock()))

    def start_ready(self) -> list[Trial]:
        """Begin what may begin now; what an opt-out forbids after all comes back."""
        refused = []
        for work in self._pacer.take(self._clock()):
            one = self._waiting.pop(work.attempt)
            reason = self._steps.refusal(work.endpoint)
            if reason is None:
                task = asyncio.ensure_future(self._steps.probe(one.endpoint, one.variant))
                self.tasks[task] = work
                task.set_name(one.variant)
            else:
                self._pacer.abandon(work, self._clock())
                refused.append(Trial(one.endpoint, one.variant, Outcome.NOT_TESTED, reason.value))
        return refused

    async def ended(self, stop: asyncio.Event) -> list[Trial]:
        """Wait until a session ends, something may begin, or `stop` is set; the sessions that ended."""
        wake_at = self._pacer.wake_at(self._clock())
        pause = IDLE_SECONDS if wake_at is None else min(IDLE_SECONDS, max(0.0, wake_at - self._clock()))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({*self.tasks, stopping}, timeout=pause, return_when="FIRST_COMPLETED")
        finally:
            stopping.cancel()
        return [self._finish(task) for task in list(self.tasks) if task in done]

    async def wind_up(self) -> list[Trial]:
        """Let sessions under way end by themselves for a moment, then cut them off."""
        if not self.tasks:
            return []
        done, late = await asyncio.wait(self.tasks, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        cut = [
            Trial(self.tasks.pop(task).endpoint, task.get_name(), Outcome.NOT_TESTED, Reason.INTERRUPTED.value)
            for task in late
        ]
        return [*(self._finish(task) for task in done), *cut]

    def left(self, reason: Reason) -> list[Trial]:
        """What was not begun."""
        return [
            Trial(
                one.endpoint,
                one.variant,
                Outcome.NOT_TESTED,
                (Reason.OPERATOR_STOPPED if place in self._stopped else reason).value,
            )
            for place, one in self._waiting.items()
        ]

    def _finish(self, task: asyncio.Task[Observation]) -> Trial:
        work = self.tasks.pop(task)
        observation = task.result()
        aftermath = self._pacer.finish(work, observation, self._clock())
        self._stopped.update(stopped.attempt for stopped in aftermath.stopped)
        return trial_of(task.get_name(), observation)

    def _clock(self) -> float:
        return self._steps.now().timestamp()


def trial_of(variant: str, observation: Observation) -> Trial:
    """What a session says of its variant."""
    return Trial(
        endpoint=observation.endpoint,
        variant=variant,
        outcome=outcome(observation),
        started_at=observation.started_at,
        duration_ms=observation.duration_ms,
        stage=observation.stage,
        failure=observation.failure,
        client_auth=observation.client_auth,
        presented=variant != CONTROL and observation.client_ca_names is not None,
        tls_version=observation.tls_version,
        tls_alert=observation.tls_alert,
        reply_code=observation.reply_code,
        detail=observation.detail,
        ehlo_keywords=observation.ehlo_keywords_after_tls,
    )


def outcome(observation: Observation) -> Outcome:
    """First that holds; before the handshake nothing can be about a client certificate."""
    if observation.failure is None:
        return Outcome.ACCEPTED
    if observation.stage not in _AFTER_HELLO:
        return Outcome.FAILED
    if observation.tls_alert is not None:
        return Outcome.ALERT
    if observation.failure is Failure.NEGATIVE_REPLY:
        return Outcome.REPLY
    return Outcome.CLOSED if observation.failure is Failure.CLOSED else Outcome.FAILED
