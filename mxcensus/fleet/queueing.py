"""Procrastinate's job manager with fewer statements: jobs are taken and finished several at a time.

The engine asks for one job and finishes one job at a time. Here one statement takes as many as were taken lately at
once, and one finishes all that end together; what a job costs is then mostly the job. A job that is taken counts as
running in the database, so one that this process has not begun is given back like any other.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from procrastinate.connector import BaseAsyncConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from mxcensus.fleet.batching import Batcher

MOST = 20

_TAKE = """
SELECT (taken).* FROM (
    SELECT procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker_id)s) AS taken
    FROM generate_series(1, %(most)s) OFFSET 0
) AS jobs
WHERE (taken).id IS NOT NULL
"""
_DELETE = "SELECT procrastinate_finish_job_v1(id, 'succeeded', true) FROM unnest(%(ids)s::bigint[]) AS id"


class BatchedJobs(JobManager):
    """A job manager for an engine that deletes what went well."""

    def __init__(self, connector: BaseAsyncConnector) -> None:
        super().__init__(connector)
        self.waiting: deque[Job] = deque()
        self._most = 1
        self._finished = Batcher[Job, None](self._finish)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job; more are taken when the last ones were all there was room for."""
        if not self.waiting:
            names = None if queues is None else list(queues)
            rows = await self.connector.execute_query_all_async(
                query=_TAKE, most=self._most, queues=names, worker_id=worker_id
            )
            self._most = min(MOST, 2 * self._most) if len(rows) == self._most else max(1, len(rows))
            self.waiting.extend(Job.from_row(row) for row in rows)
        return self.waiting.popleft() if self.waiting else None

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        if delete_job and status is Status.SUCCEEDED:
            await self._finished.ask(job)
        else:
            await super().finish_job(job, status, delete_job)

    async def _finish(self, jobs: Sequence[Job]) -> Sequence[None]:
        try:
            await self.connector.execute_query_async(query=_DELETE, ids=[job.id for job in jobs])
        except ConnectorException:  # one of them may be another's by now: each for itself
            for job in jobs:
                with suppress(ConnectorException):
                    await super().finish_job(job, Status.SUCCEEDED, delete_job=True)
        return [None] * len(jobs)
