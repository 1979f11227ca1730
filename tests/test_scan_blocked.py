"""An operator that says twice that we are blocked is left alone, also when the scan was resumed in between."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy import select
from storing import SEED, failed, new_scan, writer_of

from scanner.pace import Limits
from scanner.records import MailRouting, MxHost, Routing, Target
from scanner.scan import Progress, ScanSettings, Steps, scan
from storage.ledger import SqlLedger
from storage.schema import endpoint, observation

HOSTS = 10
SETTINGS = ScanSettings(SEED, limits=Limits(interval=0, per_operator=1, rate=1000))


def now():
    return datetime.now(UTC)


async def run(database, scan_id, *, until):
    """Scan until so many sessions took place, each of which is told that we are blocked."""
    stop, progress, contacted = asyncio.Event(), Progress(), []

    async def route(name):
        number = name.partition(".")[0]
        host = MxHost(10, f"mx{number}.op.example", (f"192.0.2.{number}",), "NOERROR", "NODATA")
        return MailRouting(name, Routing.MX, "NOERROR", mx=(host,))

    async def probe(of, attempt):
        contacted.append(of)
        if len(contacted) == until:
            stop.set()
        return failed(of, attempt=attempt, detail="554 5.7.1 you are blocked", at=now())

    steps = Steps(route, probe, lambda _: None, lambda host: host.partition(".")[2], now, lambda: 0.0)
    async with writer_of(database, scan_id) as writer:
        ledger = SqlLedger(database, writer, scan_id, seed=SEED, interval=0)
        if database.scan_info(scan_id).state == "loading":
            await ledger.add_targets(Target(f"{number}.example") for number in range(1, HOSTS + 1))
            await database.set_state(scan_id, "running")
        async with asyncio.timeout(60):
            async for record in scan(ledger, SETTINGS, steps, stop, progress):
                await writer.write(record)
    return contacted, progress.stopped_operators


async def test_one_word_in_each_of_two_runs_stops_the_operator_and_says_so(database):
    scan_id = await new_scan(database, state="loading")
    first, stopped = await run(database, scan_id, until=1)
    assert (len(first), stopped) == (1, set())
    second, stopped = await run(database, scan_id, until=HOSTS)
    assert (len(second), stopped) == (1, {"op.example"})
    third, stopped = await run(database, scan_id, until=HOSTS)
    assert third == []
    with database.reading() as connection:
        reasons = connection.execute(select(endpoint.c.reason).where(endpoint.c.last_attempt == 0)).scalars().all()
        seen = connection.execute(select(observation.c.mx_host)).scalars().all()
    assert reasons == ["operator-stopped"] * (HOSTS - 2)
    assert sorted(seen) == sorted(of.mx_host for of in first + second)
