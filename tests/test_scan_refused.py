"""A refusal is never stored without the pause that follows from it: a killed scan keeps both or neither."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from storing import SEED, endpoint, failed, new_scan, writer_of

from scanner.pace import PARK_SECONDS, Limits
from scanner.records import MailRouting, MxHost, Observation, Routing, Target
from scanner.scan import Progress, ScanSettings, Steps, scan
from storage.ledger import SqlLedger
from storage.schema import endpoint as endpoint_table

NAMES = ("mx1.example.net", "mx2.example.net")
SETTINGS = ScanSettings(SEED, limits=Limits(interval=0, rate=1000))


def now():
    return datetime.now(UTC)


def ledger_of(database, writer, scan_id):
    return SqlLedger(database, writer, scan_id, seed=SEED, interval=0)


async def refused_once(database, scan_id):
    """Scan an address with two names until its first refusal comes out, which is as far as the process gets.

    Returns the rows of its endpoints as they are committed when the writer is first told of the refusal.
    """

    async def route(name):
        mx = tuple(MxHost(10, host, (endpoint(1).address,), "NOERROR", "NODATA") for host in NAMES)
        return MailRouting(name, Routing.MX, "NOERROR", mx=mx)

    async def probe(of, attempt):
        return failed(of, attempt=attempt, at=now())

    steps = Steps(route, probe, lambda _: None, lambda host: host, now, lambda: 0.0)
    async with writer_of(database, scan_id) as writer, asyncio.timeout(60):
        ledger = ledger_of(database, writer, scan_id)
        await ledger.add_targets([Target("a.example")])
        records = scan(ledger, SETTINGS, steps, asyncio.Event(), Progress())
        async for record in records:
            if isinstance(record, Observation):
                with database.reading() as connection:
                    rows = connection.execute(select(endpoint_table)).all()
                await writer.write(record)
                await records.aclose()
                return record, rows
            await writer.write(record)
    raise AssertionError("no session took place")


async def test_the_pause_is_committed_before_the_refusal_can_be(database):
    scan_id = await new_scan(database, state="loading")
    seen, rows = await refused_once(database, scan_id)
    pause = timedelta(seconds=PARK_SECONDS[0])
    assert len(rows) == len(NAMES)
    assert all(row.last_attempt == 0 and row.not_before >= seen.started_at + pause for row in rows)

    async with writer_of(database, scan_id) as writer:  # the next run
        works = await ledger_of(database, writer, scan_id).pending(9)
    assert {(work.endpoint.mx_host, work.attempt) for work in works} == {
        (host, 2 if host == seen.endpoint.mx_host else 1) for host in NAMES
    }
    assert all(work.not_before >= seen.started_at + pause for work in works)
