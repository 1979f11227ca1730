"""One scan as a worker sees it: its plan as it was enqueued, its ledger, writer and gate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from mxcensus.fleet.clock import Clock
from mxcensus.fleet.gate import Gate
from mxcensus.fleet.tables import fleet_scan
from mxcensus.plan import Plan
from mxcensus.scanning import as_begun
from mxcensus.steps import make_steps
from mxcensus.watchers import Watcher
from scanner import names, operators, software
from scanner.exclusions import Exclusions
from scanner.records import ScanInfo
from scanner.resolver import Resolver
from scanner.scan import KNOWN_CERTIFICATES, FirstSeen, Steps
from scanner.session import MOST_TIMEOUTS
from storage.database import Database
from storage.ledger import SqlLedger
from storage.writer import Writer


class WrongTrust(ValueError):
    """The worker's trust snapshot is not the one of a scan; the message is one line."""


@dataclass(frozen=True, slots=True)
class Census:
    """A scan that this worker takes part in; `longest` is the longest session in seconds."""

    scan: int
    info: ScanInfo
    plan: Plan
    database: Database
    writer: Writer
    ledger: SqlLedger
    gate: Gate
    steps: Steps
    first_seen: FirstSeen
    longest: float


def longest_session(timeout: float) -> float:
    """The longest that a session can take, in seconds."""
    return MOST_TIMEOUTS * timeout


def check_trust(info: ScanInfo, plan: Plan) -> None:
    """Raise `WrongTrust` where results would be classified by another snapshot than the scan's."""
    if info.trust_id != plan.trust.id:
        raise WrongTrust(
            f"scan {info.scan} uses the trust snapshot {info.trust_id}, this worker has {plan.trust.id}:"
            " name the scan's with --trust"
        )


def opt_outs(connection: Connection, scan: int) -> Exclusions:
    """The opt-outs that were enqueued with a scan."""
    texts: list[str] = connection.execute(
        select(fleet_scan.c.exclusions).where(fleet_scan.c.scan_id == scan)
    ).scalar_one()
    merged = Exclusions.parse((), "")
    for number, text in enumerate(texts, 1):
        merged |= Exclusions.parse(text.splitlines(), f"opt-outs {number} of scan {scan}")
    return merged


async def open_census(
    database: Database, scan: int, worker: Plan, resolver: Resolver, clock: Clock, watchers: Sequence[Watcher]
) -> Census:
    """Open a scan by what the worker was given (resolver, trust, further opt-outs) and as it was enqueued."""
    info = await database.read(lambda _: database.scan_info(scan))
    check_trust(info, worker)
    excluded = await database.read(lambda connection: opt_outs(connection, scan))
    plan = as_begun(replace(worker, exclusions=worker.exclusions | excluded), info)
    limits = plan.scan.limits
    longest = longest_session(plan.timeout)
    writer = Writer(
        database,
        scan,
        seed=info.seed,
        operator_of=operators.operator,
        software_of=software.of_observation,
        ca_name_text=names.shown,
    )
    settings: dict[str, Any] = {"seed": info.seed, "interval": limits.interval, "now": clock.now}
    ledger = SqlLedger(database, writer, scan, **settings)
    steps = make_steps(plan, resolver, watchers, clock=clock.now)
    return Census(
        scan=scan,
        info=info,
        plan=plan,
        database=database,
        writer=writer,
        ledger=ledger,
        gate=Gate(database, ledger, scan, limits, longest, steps, clock),
        steps=steps,
        first_seen=FirstSeen(KNOWN_CERTIFICATES),
        longest=longest,
    )
