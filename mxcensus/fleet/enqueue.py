"""Targets into a fleet's ledger and queue. Enqueuing the same again goes on where it was; nothing is done twice."""

import asyncio
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from sqlalchemy import Connection, func, insert, select, update

from mxcensus import __version__, inputs
from mxcensus.fleet import jobs, tables
from mxcensus.fleet.clock import Clock
from mxcensus.fleet.steward import DOMAINS_A_JOB
from mxcensus.fleet.tables import BadFleet, fleet_scan
from mxcensus.plan import Plan
from mxcensus.scanning import check_begin
from scanner import policy
from scanner.records import Target
from storage.database import Database, open_database
from storage.due import ranges
from storage.ledger import SqlLedger
from storage.writer import Writer


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of a call: the scan, whether it was there already, and where it stands."""

    scan: int
    known: bool
    phase: str
    jobs: int


def enqueue(plan: Plan, words: Sequence[str], file: str | None) -> Enqueued:
    """Enter targets as a scan of the fleet, with jobs for its domains; or find the scan that they are already."""
    with tempfile.TemporaryDirectory() as folder:
        path = _seekable(file, Path(folder))
        targets = inputs.Targets(words, path, plan.exclusions)
        stream = check_begin(plan, targets)
        database = open_database(plan.database)
        try:
            tables.make(database)
            digest = _digest(plan, words, path)
            with _alone(database, digest), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_enqueue(plan, database, digest, stream))
        finally:
            database.close()


def _seekable(file: str | None, folder: Path) -> str | None:
    """A file that can be read twice: standard input is copied."""
    if file != "-":
        return file
    path = folder / "targets"
    with path.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return str(path)


def _digest(plan: Plan, words: Sequence[str], file: str | None) -> str:
    """What makes two calls the same: the targets, and what decides which endpoints are contacted."""
    facts = [plan.label, plan.scan.port, plan.scan.names_per_address, plan.allow_special_purpose, plan.trust.id]
    digest = hashlib.sha256(json.dumps([*facts, *words]).encode())
    if file is not None:
        with Path(file).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def _alone(database: Database, digest: str) -> Iterator[None]:
    """Hold a lock that the database takes back should this process die."""
    key = int(digest[:15], 16)
    with database.engine.connect() as connection:
        if not connection.execute(select(func.pg_try_advisory_lock(key))).scalar_one():
            raise BadFleet("the same is being enqueued at this moment")
        connection.commit()
        yield


async def _enqueue(plan: Plan, database: Database, digest: str, stream: Iterator[Target]) -> Enqueued:
    clock = Clock()
    await database.read(clock.sync)
    query = select(fleet_scan.c.scan_id, fleet_scan.c.phase).where(fleet_scan.c.digest == digest)
    found = await database.read(lambda connection: connection.execute(query).first())
    if found is not None and found.phase not in {"loading", "route"}:
        return Enqueued(found.scan_id, known=True, phase=found.phase, jobs=0)
    scan = found.scan_id if found is not None else await _new_scan(plan, database, digest, clock)
    phase = found.phase if found is not None else "loading"
    if phase == "loading":
        await _load(plan, database, scan, stream)
    keys = await database.read(lambda connection: ranges(connection, scan, DOMAINS_A_JOB))
    app = jobs.make_app(plan.database)
    async with app.open_async():
        await jobs.defer(app, [*(jobs.route_job(scan, key) for key in keys), jobs.steward_job(scan)])
    return Enqueued(scan, known=phase != "loading", phase="route", jobs=len(keys))


async def _new_scan(plan: Plan, database: Database, digest: str, clock: Clock) -> int:
    """A scan in state `loading`, known by the digest."""
    texts = [path.read_text(encoding="utf-8", errors="surrogateescape") for path in plan.exclude_files]
    scan = await database.new_scan(
        label=plan.label,
        started_at=clock.now(),
        tool_version=__version__,
        rules_version=policy.RULES_VERSION,
        trust_id=plan.trust.id,
        seed=plan.scan.seed,
        settings=replace(plan, exclude_files=()).manifest(),  # opt-outs are in the fleet's own table
        state="loading",
    )
    row = {"scan_id": scan, "digest": digest, "phase": "loading", "rounds": 0, "exclusions": texts}
    await database.run(lambda connection: connection.execute(insert(fleet_scan).values(**row)).rowcount)
    return scan


async def _load(plan: Plan, database: Database, scan: int, stream: Iterator[Target]) -> None:
    info = await database.read(lambda _: database.scan_info(scan))
    writer = Writer(
        database, scan, seed=info.seed, operator_of=str, software_of=lambda _: None, ca_name_text=repr
    )  # a load writes no records
    ledger = SqlLedger(database, writer, scan, seed=info.seed, interval=plan.scan.limits.interval)
    began = time.monotonic()
    await ledger.add_targets(stream)
    print(f"mxcensus: targets read in {time.monotonic() - began:.0f} s", file=sys.stderr)

    def begin(connection: Connection) -> None:
        connection.execute(update(fleet_scan).where(fleet_scan.c.scan_id == scan).values(phase="route"))

    await database.set_state(scan, "running")
    await database.run(begin)
