"""A worker: takes jobs until it is told to stop, hundreds of sessions on one loop.

What can go wrong around it:

- it is told to stop (SIGTERM, SIGINT): it takes no more jobs, lets sessions end, and gives back what is left;
- it dies: its heartbeat stops, and after `STALLED_SECONDS` another worker takes its jobs over;
- it is cut off from the database: it ends itself after `FENCE_SECONDS`, before others take its jobs over, so that
  no two sessions of an address can be alive;
- a newer version changes the tables, or a scan needs another trust snapshot: it says so and ends with status 2.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import uvloop
from procrastinate import App
from procrastinate.exceptions import ProcrastinateException
from procrastinate.jobs import Job
from procrastinate.worker import Worker as Engine
from sqlalchemy import delete, make_url, select
from sqlalchemy.exc import DBAPIError

from mxcensus import __version__
from mxcensus.collector import rare_collections
from mxcensus.fleet import tables
from mxcensus.fleet.census import Census, check_trust, open_census
from mxcensus.fleet.clock import Clock
from mxcensus.fleet.jobs import Handlers, make_app
from mxcensus.fleet.probe import Prober
from mxcensus.fleet.queueing import BatchedJobs
from mxcensus.fleet.steward import Steward
from mxcensus.fleet.tables import fleet_scan, fleet_worker
from mxcensus.plan import Plan
from mxcensus.watchers import Watcher, watching
from scanner.resolver import Resolver
from storage.database import Database, open_database
from storage.dialects import upsert
from storage.errors import StorageFailed

BEAT_SECONDS = 10.0
FENCE_SECONDS = 60.0
STALLED_SECONDS = 90.0
"""Fence and two beats fit in: whoever is cut off is gone before it is missed."""

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0
KEEP_DAYS = 7
CUT_OFF = 75
"""Exit status (EX_TEMPFAIL) of a worker that lost the database: whoever supervises it starts it again."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; the defaults stand above. `stalled` must be more than `fence` and two `beat`."""

    beat: float = BEAT_SECONDS
    fence: float = FENCE_SECONDS
    stalled: float = STALLED_SECONDS
    grace: float = GRACE_SECONDS


def work(plan: Plan, timing: Timing, *, until_idle: bool = False) -> int:
    """Run one worker until it is told to stop, or with `until_idle` until all scans are done; the exit status."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    database = open_database(_with_timeouts(plan.database, timing), create=False)
    try:
        tables.check(database)
        worker = _Worker(plan, timing, database, until_idle=until_idle)
        with (
            rare_collections(),
            watching(plan, worker.counts) as watchers,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(worker.run(watchers))
    finally:
        database.close()


def _with_timeouts(url: str, timing: Timing) -> str:
    """The database gives up a transaction whose worker was cut off in its middle, or its row locks would stay."""
    parsed = make_url(url)
    if "options" in parsed.query:
        return url
    options = f"-c timezone=UTC -c idle_in_transaction_session_timeout={round(timing.fence * 1000)}"
    return parsed.update_query_dict({"options": options}).render_as_string(hide_password=False)


class _Worker:
    def __init__(self, plan: Plan, timing: Timing, database: Database, *, until_idle: bool) -> None:
        self._plan = plan
        self._watchers: Sequence[Watcher] = ()
        self._timing = timing
        self._database = database
        self._until_idle = until_idle
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._clock = Clock()
        self._started = time.monotonic()
        self._beat_at = time.monotonic()
        self._stop = asyncio.Event()
        self._refusal: Exception | None = None
        self._censuses: dict[int, asyncio.Task[Census]] = {}
        limits = plan.scan.limits
        self._prober = Prober(self._name, self._census, self._clock, limits.concurrency, limits.rate)
        self.counts = self._prober.counts
        self._seen = (0, 0, time.monotonic())
        self._running: set[int] = set()
        self._unknown: set[int] = set()
        self._engine: Engine | None = None

    async def run(self, watchers: Sequence[Watcher]) -> int:
        self._watchers = watchers
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._database.read(self._clock.sync)
        await asyncio.to_thread(self._check_scans)
        async with Resolver(self._plan.resolvers) as self._resolver:
            handlers = Handlers(self._prober.route, self._prober.probe, self._lead, self._run_job)
            places = self._plan.scan.limits.concurrency
            app = make_app(self._plan.database, handlers, self._clock.seconds, places)
            self._steward = Steward(app, self._database, self._census, self._clock)
            async with app.open_async():
                await self._run(app)
        if self._refusal is not None:
            raise self._refusal
        return 0

    async def _lead(self, scan: int) -> None:
        await self._steward.lead(scan)

    async def _run(self, app: App) -> None:
        beat, chores = asyncio.create_task(self._beat()), asyncio.create_task(self._chores(app))
        fence = asyncio.create_task(self._fence())
        try:
            while not self._stop.is_set():
                await self._work(app)
        finally:
            chores.cancel()
            for opening in self._censuses.values():
                with suppress(Exception):
                    await (await opening).writer.close()
            with suppress(StorageFailed):
                mine = delete(fleet_worker).where(fleet_worker.c.name == self._name)
                await self._database.run(lambda connection: connection.execute(mine).rowcount)
            beat.cancel()
            fence.cancel()

    async def _work(self, app: App) -> None:
        """Let the engine run until we are to stop, or it lost the database and has to begin anew."""
        engine = self._engine = Engine(
            app,
            name=self._name,
            concurrency=self._plan.scan.limits.concurrency * 5 // 4 + 5,  # some wait for a commit
            fetch_job_polling_interval=POLL_SECONDS,
            listen_notify=False,  # the queue tells nobody: see tables.py
            shutdown_graceful_timeout=self._timing.grace,
            delete_jobs="successful",
            install_signal_handlers=False,
            update_heartbeat_interval=self._timing.beat,
            stalled_worker_timeout=self._timing.stalled,
        )
        running = asyncio.create_task(engine.run())  # type: ignore[no-untyped-call]  # procrastinate's
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            engine.stop()  # type: ignore[no-untyped-call]  # procrastinate's
        try:
            await running
        except ProcrastinateException as error:
            print(f"mxcensus: {self._name}: the queue cannot be reached: {error}", file=sys.stderr)
            await asyncio.sleep(1)
        finally:
            stopping.cancel()
            await self._give_back(app)

    async def _give_back(self, app: App) -> None:
        """Return what was taken and not begun, so that nobody has to miss it first."""
        taken = list(self._taken(app))
        if isinstance(app.job_manager, BatchedJobs):
            app.job_manager.waiting.clear()
        for job in taken:
            with suppress(ProcrastinateException):
                await app.job_manager.retry_job(job=job, retry_at=self._clock.now())

    # ------------------------------------------------------------------------------------------ its scans

    def _check_scans(self) -> None:
        """Refuse to begin where an open scan was enqueued with another trust snapshot."""
        query = select(fleet_scan.c.scan_id).where(fleet_scan.c.phase != "done")
        with self._database.reading() as connection:
            open_scans = list(connection.execute(query).scalars())
        for scan in open_scans:
            check_trust(self._database.scan_info(scan), self._plan)

    async def _census(self, scan: int) -> Census:
        if scan not in self._censuses:
            opening = open_census(self._database, scan, self._plan, self._resolver, self._clock, self._watchers)
            self._censuses[scan] = asyncio.create_task(opening)
        return await asyncio.shield(self._censuses[scan])

    async def _run_job(self, number: int, job: Awaitable[None]) -> None:
        """Do a job; what means that this worker must not go on ends it, and the job comes again elsewhere."""
        self._running.add(number)
        try:
            await job
        except (ValueError, StorageFailed) as error:
            self._refuse(error)
            raise asyncio.CancelledError from error
        finally:
            self._running.discard(number)

    def _refuse(self, error: Exception) -> None:
        self._refusal = self._refusal or error
        self._stop.set()

    # ------------------------------------------------------------------------------------- signs of life

    async def _beat(self) -> None:
        """Note when the database was last heard."""
        while True:
            with suppress(StorageFailed):  # the fence watches
                await self._database.read(self._clock.sync)
                self._beat_at = time.monotonic()
            await asyncio.sleep(self._timing.beat)

    async def _chores(self, app: App) -> None:
        while True:
            try:
                await asyncio.to_thread(tables.check, self._database)
                await self._tell()
                await self._take_over(app)
                if self._until_idle and await self._is_idle():
                    self._stop.set()
            except ValueError as error:
                self._refuse(error)
                return
            except (StorageFailed, ProcrastinateException, DBAPIError, OSError):
                pass  # next time; the fence watches
            await asyncio.sleep(self._timing.beat)

    async def _fence(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._timing.fence / 4))
            if time.monotonic() - self._beat_at > self._timing.fence:
                print(f"mxcensus: {self._name}: cut off from the database, ending", file=sys.stderr, flush=True)
                os._exit(CUT_OFF)  # every session ends with the process, and before another worker begins its jobs

    async def _take_over(self, app: App) -> None:
        """Give back to the queue what dead workers were at, and what is lost here; forget old failures."""
        stalled = list(await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._timing.stalled))
        for job in [*stalled, *await self._lost(app)]:
            with suppress(ProcrastinateException):  # another worker was faster
                await app.job_manager.retry_job(job=job, retry_at=self._clock.now())
        await self._database.run(lambda connection: tables.prune(connection, KEEP_DAYS))

    async def _lost(self, app: App) -> list[Job]:
        """Jobs that the queue thinks are running here and are not, twice in a row.

        A restart of the database can swallow the answer to "give me a job" and to "this job is done".
        """
        if self._engine is None or self._engine.worker_id is None:
            return []
        ours = await app.job_manager.list_jobs_async(status="doing", worker_id=self._engine.worker_id)
        here = self._running | {job.id for job in self._taken(app)}
        unknown = {job.id or 0: job for job in ours if job.id not in here}
        before, self._unknown = self._unknown, set(unknown)
        return [job for number, job in unknown.items() if number in before]

    @staticmethod
    def _taken(app: App) -> Sequence[Job]:
        """Jobs that were taken from the queue and not begun."""
        return app.job_manager.waiting if isinstance(app.job_manager, BatchedJobs) else ()

    async def _is_idle(self) -> bool:
        query = select(fleet_scan.c.scan_id).where(fleet_scan.c.phase != "done").limit(1)
        return await self._database.read(lambda connection: connection.execute(query).first()) is None

    async def _tell(self) -> None:
        counts, now = self.counts, time.monotonic()
        sessions, domains, before = self._seen
        passed = max(now - before, 0.001)
        self._seen = (counts.sessions, counts.domains, now)
        row = {
            "name": self._name,
            "version": __version__,
            "trust_id": self._plan.trust.id,
            "started_at": self._clock.seconds() - (now - self._started),
            "seen_at": self._clock.seconds(),
            "sessions": counts.sessions,
            "domains": counts.domains,
            "in_flight": counts.in_flight,
            "sessions_rate": (counts.sessions - sessions) / passed,
            "domains_rate": (counts.domains - domains) / passed,
        }
        facts = [name for name in row if name != "name"]
        await self._database.run(
            lambda connection: upsert(
                connection, fleet_worker, [row], lambda new: {name: new[name] for name in facts}
            )
        )
