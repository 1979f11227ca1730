"""The composition root of a scan: opens everything, joins it, and closes it in the right order.

Here a scanner that knows no database meets a storage that knows no network.
"""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice

from mxcensus import __version__, classification
from mxcensus.inputs import Targets, default_ehlo_name
from mxcensus.progress import Display
from scanner import addresses, operators, policy, routing, software
from scanner.certificates import name_text
from scanner.exclusions import Exclusions
from scanner.records import Endpoint, MailRouting, Observation, Reason, ScanInfo, Target
from scanner.resolver import Resolver
from scanner.scan import Progress, ScanSettings, Steps, scan
from scanner.session import SessionSettings, observe
from scanner.trust import TrustSnapshot
from storage.database import Database, open_database
from storage.ledger import SqlLedger
from storage.writer import Writer

ANONYMOUS_DOMAINS = 10
"""How many domains may be scanned without saying who asks."""

TARGET_BATCH = 5000


class BadPlan(ValueError):
    """A scan that must not or cannot begin; the message is one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a scan that is decided before it begins."""

    database: str
    trust: TrustSnapshot
    label: str | None
    resolvers: tuple[tuple[str, int], ...]
    exclusions: Exclusions
    ehlo_name: str | None
    contact: str | None
    allow_special_purpose: bool
    timeout: float
    resume: bool
    verbose: bool
    scan: ScanSettings

    def manifest(self) -> dict[str, object]:
        """The settings as stored with the scan: what another reader needs, and no secret."""
        return {
            "port": self.scan.port,
            "names_per_address": self.scan.names_per_address,
            "limits": asdict(self.scan.limits),
            "timeout": self.timeout,
            "resolvers": [f"{host}:{port}" for host, port in self.resolvers],
            "ehlo_name": self.ehlo_name,
            "contact": self.contact,
            "allow_special_purpose": self.allow_special_purpose,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scan ended."""

    scan: int
    domains: int
    endpoints: int
    measured: int
    failed: int
    not_tested: int
    certificates: int
    seconds: float
    routing_unanswered: int
    interrupted: bool
    parked: int
    stopped_operators: tuple[str, ...]
    bad_lines: int
    excluded: int

    def as_dict(self) -> dict[str, object]:
        """The object that `scan --json` prints."""
        names = ("scan", "domains", "endpoints", "measured", "failed", "not_tested", "certificates")
        return {name: getattr(self, name) for name in names} | {"seconds": round(self.seconds, 3)}

    @property
    def exit_status(self) -> int:
        if self.interrupted:
            return 130
        return 0 if self.measured or not self.routing_unanswered else 1


def run(plan: Plan, targets: Targets, display: Display) -> Outcome:
    """Run one scan from targets to stored classifications; the first thing that is checked is whether it may."""
    stream = iter(targets)
    first = list(islice(stream, ANONYMOUS_DOMAINS + 1))
    if not plan.resume:
        check_begin(plan, targets, first)
    database = open_database(plan.database)
    try:
        with _event_loop() as runner:
            return runner.run(_run(plan, database, targets, _chain(first, stream), display))
    finally:
        database.close()


def check_begin(plan: Plan, targets: Targets, first: list[Target]) -> None:
    """Raise `BadPlan` where there is nothing to scan, or nobody to ask about it."""
    if not first:
        skipped = f" ({targets.bad_lines} bad lines, {targets.excluded} excluded)" if targets else ""
        raise BadPlan(f"no domain to scan{skipped}")
    if len({target.domain for target in first}) > ANONYMOUS_DOMAINS and not (plan.ehlo_name and plan.contact):
        raise BadPlan(f"more than {ANONYMOUS_DOMAINS} domains need --ehlo-name and --contact")


async def _run(
    plan: Plan, database: Database, targets: Targets, stream: Iterator[Target], display: Display
) -> Outcome:
    began = time.monotonic()
    stop = asyncio.Event()
    with _stopped_by_signals(stop):
        info = await _begin(plan, database, bool(targets))
        settings = _as_stored(plan.scan, info)
        writer = Writer(
            database,
            info.scan,
            seed=info.seed,
            operator_of=operators.operator,
            software_of=software.of_observation,
            ca_name_text=name_text,
        )
        ledger = SqlLedger(database, writer, info.scan, seed=info.seed, interval=settings.limits.interval)
        progress = Progress()
        with display.showing():
            if info.state == "loading":
                await _load(ledger, stream)
                await database.set_state(info.scan, "running")
            totals = await ledger.totals()
            watcher = asyncio.ensure_future(_watch(ledger, progress, totals, display))
            try:
                async with Resolver(plan.resolvers) as resolver:
                    records = scan(ledger, settings, _steps(plan, resolver), stop, progress)
                    async with aclosing(records):
                        async for record in records:
                            await writer.write(record)
            finally:
                watcher.cancel()
                await writer.close()
            interrupted = stop.is_set()
            if not interrupted:
                progress.phase = "classify"
                display.update(progress, totals)
            await asyncio.to_thread(classification.classify_scan, database, info.scan, plan.trust)
        await database.set_state(info.scan, "interrupted" if interrupted else "finished", datetime.now(UTC))
    return await _outcome(database, info, targets, progress, interrupted, time.monotonic() - began)
