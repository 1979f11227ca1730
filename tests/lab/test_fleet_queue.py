"""The queue's own statements on a real PostgreSQL: who gets a job, and who may end it."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("procrastinate", reason="NOT TESTED: the extra fleet is not installed")

from procrastinate.jobs import Job, Status
from sqlalchemy import text

from mxcensus.fleet import tables
from mxcensus.fleet.jobs import connector
from mxcensus.fleet.queueing import BatchedJobs, enter
from storage.database import open_database

pytestmark = pytest.mark.lab

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def job(lock, *, scan=1, priority=0, at=LONG_AGO):
    return Job(id=None, queue="probe:1", lock=lock, queueing_lock=f"{scan} {lock}", task_name="probe",
               task_kwargs={"scan": scan}, priority=priority, scheduled_at=at)  # fmt: skip


@pytest.fixture
def url(postgresql):
    url = postgresql.database()
    database = open_database(url)
    tables.make(database)
    database.close()
    yield url
    postgresql.drop(url)


@asynccontextmanager
async def queue(url, *jobs):
    """A job manager, and the numbers of two workers; the jobs are entered."""
    opened = connector(url)
    await opened.open_async()
    try:
        await enter(opened, jobs)
        manager = BatchedJobs(opened, most=20)
        yield manager, await manager.register_worker(), await manager.register_worker()
    finally:
        await opened.close_async()


async def take_all(manager, worker):
    taken = []
    while (found := await manager.fetch_job(None, worker)) is not None:
        taken.append(found)
    return taken


async def end(manager, *jobs):
    await asyncio.gather(*(manager.finish_job(one, Status.SUCCEEDED, delete_job=True) for one in jobs))


async def standing(manager):
    found = await manager.list_jobs_async()
    return [(one.lock, one.status) for one in found]


async def test_due_jobs_are_taken_once_the_highest_priority_first(url):
    later = datetime.now(UTC) + timedelta(hours=1)
    jobs = [job("low", priority=-5), job("high", priority=9), job("later", priority=10, at=later)]
    async with queue(url, *jobs) as (manager, one, other):
        assert [found.lock for found in await take_all(manager, one)] == ["high", "low"]
        assert await take_all(manager, other) == []


async def test_one_job_of_a_lock_at_a_time_in_its_turn(url):
    async with queue(url, job("a"), job("a", scan=2), job("b")) as (manager, one, other):
        taken = await take_all(manager, one)
        assert sorted((found.lock, found.task_kwargs["scan"]) for found in taken) == [("a", 1), ("b", 1)]
        assert await take_all(manager, other) == []
        await end(manager, *taken)
        assert [found.task_kwargs["scan"] for found in await take_all(manager, other)] == [2]


async def test_a_job_that_is_put_off_keeps_its_lock(url):
    async with queue(url, job("a"), job("a", scan=2)) as (manager, one, other):
        (first,) = await take_all(manager, one)
        await manager.retry_job(first, retry_at=datetime.now(UTC) + timedelta(hours=1), queue="parked:1")
        assert await take_all(manager, other) == []
        (kept, _) = await manager.list_jobs_async()
        assert (kept.lock, kept.queue, kept.attempts, kept.status) == ("a", "parked:1", 1, "todo")


async def test_what_waits_already_is_not_entered_again(url):
    async with queue(url, job("a"), job("a"), job("b")) as (manager, _, _):
        await enter(manager.connector, [job("b"), job("c")])
        assert await standing(manager) == [("a", "todo"), ("b", "todo"), ("c", "todo")]


async def test_a_job_that_was_taken_over_is_no_longer_for_its_old_worker_to_end_or_put_off(url):
    async with queue(url, job("a"), job("b")) as (manager, one, other):
        old = await take_all(manager, one)
        await asyncio.gather(*(manager.retry_job(lost, retry_at=LONG_AGO) for lost in old))
        new = await take_all(manager, other)
        await asyncio.gather(manager.retry_job(old[0], retry_at=LONG_AGO), end(manager, old[1]))
        assert await standing(manager) == [("a", "doing"), ("b", "doing")]
        await end(manager, *new)
        assert await standing(manager) == []


async def test_a_job_that_was_entered_anew_while_it_ran_does_not_come_twice_nor_hold_up_others(url):
    async with queue(url, job("a"), job("b")) as (manager, one, _):
        taken = await take_all(manager, one)
        await enter(manager.connector, [job("a")])
        await asyncio.gather(*(manager.retry_job(found, retry_at=LONG_AGO) for found in taken))
        assert sorted(await standing(manager)) == [("a", "todo"), ("b", "todo")]


async def test_failed_jobs_are_kept_for_a_while(url):
    database = open_database(url)
    try:
        async with queue(url, job("old"), job("new", at=datetime.now(UTC)), job("waits")) as (manager, one, _):
            for found in await take_all(manager, one):
                if found.lock != "waits":
                    await manager.finish_job(found, Status.FAILED, delete_job=False)
            database.write(lambda connection: tables.prune(connection, days=7))
            assert await standing(manager) == [("new", "failed"), ("waits", "doing")]
    finally:
        database.close()


def test_an_older_fleet_is_brought_up_to_date_by_migrate_only(url):
    database = open_database(url)
    try:
        undo = "DROP INDEX fleet_waiting_lock; UPDATE fleet_version SET revision = 1"
        database.write(lambda connection: connection.execute(text(undo)).close())
        with pytest.raises(tables.BadFleet, match="fleet migrate"):
            tables.check(database)
        tables.make(database)
        tables.check(database)
        with database.reading() as connection:
            assert connection.execute(text("SELECT to_regclass('fleet_waiting_lock')")).scalar_one() is not None
    finally:
        database.close()
