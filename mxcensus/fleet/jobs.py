"""The jobs of a fleet: their names, queues, locks, order and what becomes of one that has to come again.

Procrastinate takes, of the jobs that are due, the one with the highest priority. Leading a scan comes before
routing, and routing before sessions. Addresses have a random priority that they keep: taken by their planned time,
those of large operators would wait behind everybody's first, and the end of a census would be theirs alone
(`benchmarks/simulation.py`). A job that is put off keeps its lock.
"""

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.jobs import Job
from procrastinate.types import JSONDict
from sqlalchemy import make_url

from mxcensus.fleet.queueing import BatchedJobs, enter

STEWARD_PRIORITY, ROUTE_PRIORITY = 2, 1
BATCH = 1000
MOST = 50
"""How many jobs are taken at once at most, and at most for a quarter of a worker's places."""

MOST_FAULTS = 5
"""How often one process tries a job that fails by a fault of ours before it is left as failed."""

FAULT_PAUSE = 15.0


class Again(Exception):
    """A job's way to say that it has to come again at a time, seconds since the epoch; perhaps in another queue."""

    def __init__(self, at: float, queue: str | None = None) -> None:
        super().__init__(at)
        self.at = at
        self.queue = queue


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a worker does for each kind of job; `run` is given a job's number and what it does."""

    route: Callable[[int, int, int], Awaitable[None]]
    probe: Callable[[int, str], Awaitable[None]]
    steward: Callable[[int], Awaitable[None]]
    run: Callable[[int, Awaitable[None]], Awaitable[None]]


class _Patience(BaseRetryStrategy):
    """What becomes of a job that raised."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._faults: dict[int, int] = {}

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, Again):
            return _decision(exception.at, exception.queue)
        if isinstance(exception, asyncio.CancelledError):  # this worker ends; another one may go on at once
            return _decision(self._clock(), None)
        number = job.id or 0
        self._faults[number] = self._faults.get(number, 0) + 1
        what = " ".join(f"{type(exception).__name__}: {exception}".split())
        print(f"mxcensus: {job.task_name} job {number} failed: {what}", file=sys.stderr, flush=True)
        if self._faults[number] >= MOST_FAULTS:
            return None
        return _decision(self._clock() + FAULT_PAUSE * self._faults[number], None)


def _decision(at: float, queue: str | None) -> RetryDecision:
    return RetryDecision(retry_at=datetime.fromtimestamp(at, UTC), queue=queue)


def address_priority(address: str) -> int:
    """The place of an address among those that are due; below every other job."""
    return -int.from_bytes(hashlib.blake2b(address.encode(), digest_size=4).digest(), "big") // 2 - 1


def connector(url: str) -> PsycopgConnector:
    """Procrastinate's connection to the database that SQLAlchemy's URL names."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    # Every step of the queue is one statement, and needs no more than that statement's own transaction.
    settings = {"application_name": "mxcensus fleet", "autocommit": True}
    return PsycopgConnector(conninfo=plain, min_size=1, max_size=6, kwargs=settings)


def make_app(
    url: str, handlers: Handlers | None = None, clock: Callable[[], float] | None = None, places: int = 1
) -> App:
    """The queue; with `handlers` one that can also work, on as many jobs at once as it has places."""
    opened = connector(url)
    app = App(connector=opened)
    if handlers is None or clock is None:
        return app
    app.job_manager = BatchedJobs(opened, min(MOST, max(1, places // 4)))
    patience = _Patience(clock)

    async def route(context: JobContext, scan: int, first: int, last: int) -> None:
        await handlers.run(context.job.id or 0, handlers.route(scan, first, last))

    async def probe(context: JobContext, scan: int, address: str) -> None:
        await handlers.run(context.job.id or 0, handlers.probe(scan, address))

    async def steward(context: JobContext, scan: int) -> None:
        await handlers.run(context.job.id or 0, handlers.steward(scan))

    for function in (route, probe, steward):
        app.task(name=function.__name__, retry=patience, pass_context=True)(function)
    return app


def route_job(scan: int, keys: tuple[int, int]) -> Job:
    """Some hundred domains by their order keys, so that no name is in the queue."""
    first, last = keys
    name = f"route:{scan}"
    args: JSONDict = {"scan": scan, "first": first, "last": last}
    lock = f"{name}:{first}"
    return Job(id=None, queue=name, lock=lock, queueing_lock=lock, task_name="route", task_kwargs=args,
               priority=ROUTE_PRIORITY)  # fmt: skip


def probe_job(scan: int, address: str, at: float) -> Job:
    """An address. The lock is the address, whatever the scan: one live session in the whole fleet."""
    return Job(
        id=None,
        queue=f"probe:{scan}",
        lock=address,
        queueing_lock=f"{scan} {address}",
        task_name="probe",
        task_kwargs={"scan": scan, "address": address},
        scheduled_at=datetime.fromtimestamp(at, UTC),
        priority=address_priority(address),
    )


def steward_job(scan: int) -> Job:
    """The one that leads a scan from phase to phase."""
    name = f"steward:{scan}"
    return Job(id=None, queue=name, lock=name, queueing_lock=name, task_name="steward", task_kwargs={"scan": scan},
               priority=STEWARD_PRIORITY)  # fmt: skip


async def defer(app: App, jobs: Iterable[Job]) -> None:
    """Put jobs in the queue, in batches; one that waits there already is left alone."""
    iterator = iter(jobs)
    while batch := list(islice(iterator, BATCH)):
        await enter(app.connector, batch)
