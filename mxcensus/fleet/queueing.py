"""Procrastinate's job manager with fewer statements: jobs enter, are taken, come again and end many at a time.

The engine asks for one job and finishes one job at a time. Here one statement takes as many as were taken lately at
once, and one ends all that end together; what a job costs is then mostly the job. The rules are the engine's own:
the highest priority that is due comes first, a job waits for every other of its lock that runs or stands before it,
and the unique index on the lock has the last word. A job that is taken counts as running in the database, so one
that this process has not begun is given back like any other.

A job ends or comes again only for the worker that has it: one that was taken over meanwhile is another's.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.types import JSONDict

from mxcensus.fleet.batching import Batcher

GATHER_SECONDS = 0.1
"""How long an end waits for others, so that one statement writes them all."""

_ENTER = """
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
SELECT queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at
FROM jsonb_populate_recordset(NULL::procrastinate_jobs, %(entered)s -> 'jobs')
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""
_TAKE = """
WITH next AS (
    SELECT job.id FROM procrastinate_jobs job
    WHERE job.status = 'todo'
        AND (%(queues)s::varchar[] IS NULL OR job.queue_name = ANY(%(queues)s))
        AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
        AND NOT EXISTS (
            SELECT FROM procrastinate_jobs other WHERE other.lock = job.lock AND other.status = 'doing' OFFSET 0
        )
        AND NOT EXISTS (
            SELECT FROM procrastinate_jobs other
            WHERE other.lock = job.lock AND other.status = 'todo'
                AND (other.priority > job.priority OR other.priority = job.priority AND other.id < job.id)
            OFFSET 0
        )
    ORDER BY job.priority DESC, job.id LIMIT %(most)s FOR UPDATE OF job SKIP LOCKED
)
UPDATE procrastinate_jobs job SET status = 'doing', worker_id = %(worker_id)s FROM next WHERE job.id = next.id
RETURNING job.*
"""
"""OFFSET 0 has the locks looked up job by job, for those that are taken, and not joined for all that wait."""

_END = """
DELETE FROM procrastinate_jobs job USING unnest(%(ids)s::bigint[], %(workers)s::bigint[]) AS ended(id, worker)
WHERE job.id = ended.id AND job.worker_id IS NOT DISTINCT FROM ended.worker AND job.status = 'doing'
"""
_AGAIN = """
UPDATE procrastinate_jobs job
SET status = 'todo', attempts = attempts + 1, scheduled_at = again.at,
    queue_name = coalesce(again.queue, queue_name)
FROM unnest(%(ids)s::bigint[], %(workers)s::bigint[], %(times)s::timestamptz[], %(queues)s::varchar[])
    AS again(id, worker, at, queue)
WHERE job.id = again.id AND job.worker_id IS NOT DISTINCT FROM again.worker AND job.status = 'doing'
"""


@dataclass(frozen=True, slots=True)
class PutOff:
    """A job that comes again at a time, perhaps in another queue."""

    job: Job
    at: datetime
    queue: str | None


class TakenJob(Job):
    """A job for an engine whose log nobody reads: it would put all of the job into it four times."""

    def log_context(self) -> JSONDict:
        return {}


async def enter(connector: BaseConnector, jobs: Iterable[Job]) -> None:
    """Put jobs in the queue; one that waits there already is left alone."""
    rows = [
        {
            "queue_name": job.queue,
            "task_name": job.task_name,
            "priority": job.priority,
            "lock": job.lock,
            "queueing_lock": job.queueing_lock,
            "args": job.task_kwargs,
            "scheduled_at": job.scheduled_at and job.scheduled_at.isoformat(),
        }
        for job in jobs
    ]
    await connector.execute_query_async(query=_ENTER, entered={"jobs": rows})


class BatchedJobs(JobManager):
    """A job manager for an engine that deletes what went well; it takes at most `most` jobs at once.

    Those are nobody else's until this process gets to them, so there should be fewer than it has places.
    """

    def __init__(self, connector: BaseConnector, most: int) -> None:
        super().__init__(connector)
        self._limit = most
        self.waiting: deque[Job] = deque()
        self._most = 1
        self._ended = Batcher[Job, None](self._end, GATHER_SECONDS)
        self._put_off = Batcher[PutOff, None](self._put_back_all, GATHER_SECONDS)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job; more are taken when the last ones were all there was room for."""
        if not self.waiting:
            names = None if queues is None else list(queues)
            rows = await self.connector.execute_query_all_async(
                query=_TAKE, most=self._most, queues=names, worker_id=worker_id
            )
            self._most = min(self._limit, 2 * self._most) if len(rows) == self._most else max(1, len(rows))
            self.waiting.extend(TakenJob.from_row(row) for row in rows)
        return self.waiting.popleft() if self.waiting else None

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """See the engine's; one that is deleted is so together with others."""
        if delete_job and status is Status.SUCCEEDED:
            await self._ended.ask(job)
        else:
            await super().finish_job(job, status, delete_job)

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """See the engine's; priority and lock stay as they are in a fleet."""
        assert priority is None
        assert lock is None
        await self._put_off.ask(PutOff(job, retry_at or datetime.now(UTC), queue))

    async def _end(self, jobs: Sequence[Job]) -> Sequence[None]:
        with suppress(ConnectorException):  # the jobs come again as lost ones, and find nothing to do
            await self._delete(jobs)
        return [None] * len(jobs)

    async def _delete(self, jobs: Sequence[Job]) -> None:
        ids, workers = [job.id for job in jobs], [job.worker_id for job in jobs]
        await self.connector.execute_query_async(query=_END, ids=ids, workers=workers)

    async def _put_back_all(self, wanted: Sequence[PutOff]) -> Sequence[None]:
        try:
            await self._put_back(wanted)
        except UniqueViolation:  # the same was entered anew while one ran, which then need not come again
            for one in wanted:
                try:
                    await self._put_back([one])
                except UniqueViolation:
                    await self._delete([one.job])
        return [None] * len(wanted)

    async def _put_back(self, wanted: Sequence[PutOff]) -> None:
        await self.connector.execute_query_async(
            query=_AGAIN,
            ids=[one.job.id for one in wanted],
            workers=[one.job.worker_id for one in wanted],
            times=[one.at for one in wanted],
            queues=[one.queue for one in wanted],
        )
