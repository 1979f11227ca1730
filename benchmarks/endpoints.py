"""One scan of many endpoints with DNS left out: everything else is the real thing, rows in SQLite.

`python benchmarks/endpoints.py PORT COUNT CONCURRENCY DATABASE` prints one JSON object with the CPU seconds of this
process once routing is stored (selection, sessions, storing, classification and figures), those until then, its
seconds, and its resident memory.
"""

import asyncio
import json
import random
import resource
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from benchmarks.storing import new_scan
from mxcensus import classification, reporting
from mxcensus.collector import rare_collections
from scanner import operators
from scanner.ledger import order_key
from scanner.pace import Limits
from scanner.records import MailRouting, MxHost, Routing, Target
from scanner.scan import Progress, ScanSettings, Steps, scan
from scanner.session import SessionSettings, observe
from scanner.trust import bundled
from storage.database import open_database
from storage.ledger import SqlLedger
from storage.standing import standing


class Ledger(SqlLedger):
    """Notes how much CPU had gone when all routing was stored: that is the cost of lookups, not of endpoints."""

    routed = 0.0

    async def settle(self) -> None:
        await super().settle()
        self.routed = self.routed or time.process_time()


def now() -> datetime:
    return datetime.now(UTC)


async def route(domain: str) -> MailRouting:
    """Every domain has an MX host of its own on an address of its own."""
    number = int(domain.split(".", maxsplit=1)[0][1:])
    address = f"127.{1 + number // 62500 % 250}.{number // 250 % 250}.{1 + number % 250}"
    host = MxHost(10, f"mx.{domain}", (address,), "NOERROR", "NOERROR")
    return MailRouting(domain, Routing.MX, "NOERROR", mx=(host,))


async def run(port: int, count: int, concurrency: int, url: str) -> dict[str, float]:
    database = open_database(url)
    peak_in_flight = 0
    began, cpu = time.monotonic(), time.process_time()
    idle_rss = resident()
    scan_id, writer = await new_scan(database, 1, "bundled")
    await database.set_state(scan_id, "loading")
    ledger = Ledger(database, writer, scan_id, seed=1, interval=0.0)
    await ledger.add_targets(Target(f"d{number}.op{number % 1000}.test") for number in range(count))
    await database.set_state(scan_id, "running")
    session = SessionSettings("bench.example", 30.0)
    limits = Limits(concurrency=concurrency, interval=0.0, per_operator=10_000, rate=1e6)
    progress = Progress()
    steps = Steps(
        route=route,
        probe=lambda endpoint, attempt: observe(endpoint, attempt, session, now),
        refusal=lambda _: None,
        operator_of=operators.operator,
        now=now,
        jitter=random.Random(order_key(1, "jitter")).random,
    )
    stop = asyncio.Event()
    async with (
        writer,
        aclosing(scan(ledger, ScanSettings(1, port, limits=limits), steps, stop, progress)) as records,
    ):
        async for record in records:
            peak_in_flight = max(peak_in_flight, progress.in_flight)
            await writer.write(record)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    probed = time.process_time() - cpu
    classification.classify_scan(database, scan_id, bundled())
    reporting.build(database, scan_id)
    with database.reading() as connection:
        measured = standing(connection, scan_id).measured
    database.close()
    return {
        "measured": measured,
        "cpu": time.process_time() - ledger.routed,
        "cpu_routing": ledger.routed - cpu,
        "cpu_scan": probed,
        "seconds": time.monotonic() - began,
        "peak_in_flight": peak_in_flight,
        "idle_kb": idle_rss,
        "peak_kb": peak,
    }


def resident() -> int:
    """Resident memory now, in KB."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


if __name__ == "__main__":
    port, count, concurrency, url = sys.argv[1:]
    with rare_collections():
        print(json.dumps(uvloop.run(run(int(port), int(count), int(concurrency), url))))
