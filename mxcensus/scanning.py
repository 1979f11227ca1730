"""The composition root of a scan: opens everything, joins it, and closes it in the right order.

Here a scanner that knows no database meets a storage that knows no network.
"""

import asyncio
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import chain, islice

import uvloop

from mxcensus import __version__, classification
from mxcensus.inputs import Targets, default_ehlo_name
from mxcensus.progress import Display
from reports import text
from scanner import addresses, certificates, operators, policy, routing, software
from scanner.exclusions import Exclusions
from scanner.records import Endpoint, Hierarchy, MailRouting, Observation, Reason, ScanInfo, Target
from scanner.resolver import Resolver
from scanner.scan import Progress, ScanSettings, Steps, scan
from scanner.session import SessionSettings, observe
from scanner.trust import TrustSnapshot
from storage.database import Database, open_database
from storage.ledger import SqlLedger
from storage.standing import Standing, standing
from storage.writer import Writer

ANONYMOUS_DOMAINS = 10
"""How many domains may be scanned without saying who asks."""

TARGET_BATCH = 5000
WATCH_SECONDS = 0.25
SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
            "trust": {
                "as_of": self.trust.as_of.isoformat(),
                "not_measurable": sorted(set(Hierarchy) - self.trust.measurable),
            },
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
    standing: Standing
    seconds: float
    interrupted: bool
    stopped_operators: tuple[str, ...]
    excluded: int

    def as_dict(self) -> dict[str, object]:
        """The object that `scan --json` prints."""
        return {
            "scan": self.scan,
            "domains": self.standing.domains,
            "endpoints": self.standing.endpoints,
            "measured": self.standing.measured,
            "failed": self.standing.failed,
            "not_tested": self.standing.not_tested,
            "certificates": self.standing.certificates,
            "seconds": round(self.seconds, 3),
        }

    @property
    def exit_status(self) -> int:
        if self.interrupted:
            return 130
        return 0 if self.standing.measured or not self.standing.unanswered else 1


def run(plan: Plan, targets: Targets, display: Display) -> Outcome:
    """Run one scan from targets to stored classifications; whether it may begin is checked before anything else."""
    first = check_begin(plan, targets)
    database = open_database(plan.database, create=not plan.resume)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(plan, database, targets, first, display))
    finally:
        database.close()


def check_begin(plan: Plan, targets: Targets) -> Iterator[Target]:
    """The targets, from the first; raises `BadPlan` where there is none, or nobody to ask about so many."""
    stream = iter(targets)
    distinct: set[str] = set()
    first = list(takewhile_more(stream, distinct))
    if not first and not plan.resume:
        skipped = f" ({targets.bad_lines} bad lines, {targets.excluded} excluded)" if targets else ""
        raise BadPlan(f"no domain to scan{skipped}")
    if len(distinct) > ANONYMOUS_DOMAINS and not (plan.ehlo_name and plan.contact):
        raise BadPlan(f"more than {ANONYMOUS_DOMAINS} domains need --ehlo-name and --contact")
    return chain(first, stream)


def takewhile_more(stream: Iterator[Target], distinct: set[str]) -> Iterator[Target]:
    """Targets up to the one that makes too many domains to be anonymous; their names go into `distinct`."""
    for target in stream:
        distinct.add(target.domain)
        yield target
        if len(distinct) > ANONYMOUS_DOMAINS:
            return


async def _run(
    plan: Plan, database: Database, targets: Targets, stream: Iterator[Target], display: Display
) -> Outcome:
    began = time.monotonic()
    stop = asyncio.Event()
    progress = Progress()
    with _stopped_by_signals(stop):
        info = await _begin(plan, database, stream)
        await _scan(plan, database, info, progress, display, stop)
        await asyncio.to_thread(classification.classify_scan, database, info.scan, plan.trust)
        state = "interrupted" if stop.is_set() else "finished"
        await database.set_state(info.scan, state, datetime.now(UTC))
    return Outcome(
        scan=info.scan,
        standing=await database.read(lambda connection: standing(connection, info.scan)),
        seconds=time.monotonic() - began,
        interrupted=stop.is_set(),
        stopped_operators=tuple(sorted(progress.stopped_operators)),
        excluded=targets.excluded,
    )


async def _begin(plan: Plan, database: Database, stream: Iterator[Target]) -> ScanInfo:
    """The scan to work on, with all its targets entered: a new one, or the latest one that did not finish."""
    if plan.resume:
        info = await asyncio.to_thread(database.scan_info)
        if info.state == "finished" and not await _has_work(database, info.scan):
            raise BadPlan(f"scan {info.scan} is finished: there is nothing to resume")
    else:
        scan_id = await database.new_scan(
            label=plan.label,
            started_at=datetime.now(UTC),
            tool_version=__version__,
            rules_version=policy.RULES_VERSION,
            trust_id=plan.trust.id,
            seed=plan.scan.seed,
            settings=plan.manifest(),
            state="loading",
        )
        info = await asyncio.to_thread(database.scan_info, scan_id)
    if info.state == "loading":
        await _load(database, info, stream)
    await database.set_state(info.scan, "running")
    return info


async def _load(database: Database, info: ScanInfo, stream: Iterator[Target]) -> None:
    """Enter all targets, from the beginning: a scan that was stopped at this point has entered some of them."""
    first = list(islice(stream, TARGET_BATCH))
    if not first:
        raise BadPlan(f"scan {info.scan} was stopped while its targets were read: name them again")
    await database.run(partial(clear_targets, scan_id=info.scan))
    while first:
        await database.run(partial(add_targets, scan_id=info.scan, seed=info.seed, targets=first))
        first = await asyncio.to_thread(lambda: list(islice(stream, TARGET_BATCH)))


async def _has_work(database: Database, scan_id: int) -> bool:
    return (await database.read(lambda connection: standing(connection, scan_id))).parked > 0


async def _scan(
    plan: Plan, database: Database, info: ScanInfo, progress: Progress, display: Display, stop: asyncio.Event
) -> None:
    settings = _as_begun(plan.scan, info)
    writer = Writer(
        database,
        info.scan,
        seed=info.seed,
        operator_of=operators.operator,
        software_of=software.of_observation,
        ca_name_text=certificates.name_text,
    )
    ledger = SqlLedger(database, writer, info.scan, seed=info.seed, interval=settings.limits.interval)
    with display.showing():
        watcher = asyncio.ensure_future(_watch(database, info.scan, progress, display))
        try:
            async with writer, Resolver(plan.resolvers) as resolver:
                async with aclosing(scan(ledger, settings, _steps(plan, resolver), stop, progress)) as records:
                    async for record in records:
                        await writer.write(record)
        finally:
            watcher.cancel()


def _as_begun(settings: ScanSettings, info: ScanInfo) -> ScanSettings:
    """A resumed scan keeps the seed, the port and the names per address that it began with."""
    return replace(
        settings,
        seed=info.seed,
        port=int(str(info.settings["port"])),
        names_per_address=int(str(info.settings["names_per_address"])),
    )


def _steps(plan: Plan, resolver: Resolver) -> Steps:
    settings = SessionSettings(
        ehlo_name=plan.ehlo_name or default_ehlo_name(),
        timeout=plan.timeout,
        transcript=_transcript if plan.verbose else None,
    )

    async def route(name: str) -> MailRouting:
        return await routing.route(name, resolver.query_many)

    async def probe(endpoint: Endpoint, attempt: int) -> Observation:
        return await observe(endpoint, attempt, settings, _now)

    return Steps(
        route=route,
        probe=probe,
        refusal=_refusal(plan),
        operator_of=operators.operator,
        now=_now,
        jitter=random.Random().random,
    )


def _refusal(plan: Plan) -> Callable[[Endpoint], Reason | None]:
    """Why an endpoint must not be contacted: an opt-out, or an address that is nobody's mail server."""
    special = lru_cache(maxsize=100_000)(_is_special)

    def refusal(endpoint: Endpoint) -> Reason | None:
        if plan.exclusions.address(endpoint.address) or plan.exclusions.host(endpoint.mx_host):
            return Reason.EXCLUDED
        if not plan.allow_special_purpose and special(endpoint.address):
            return Reason.SPECIAL_PURPOSE
        return None

    return refusal


def _is_special(address: str) -> bool:
    return addresses.special_purpose(address) is not None or _is_own(address)


def _is_own(address: str) -> bool:
    """Whether the address is one of this machine: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def _transcript(endpoint: Endpoint) -> Callable[[str, str], None]:
    name = f"{endpoint.mx_host} [{endpoint.address}]:{endpoint.port}"
    return lambda who, line: print(f"{name} {who}: {text.visible(line)}", file=sys.stderr)


def _now() -> datetime:
    return datetime.now(UTC)


async def _watch(database: Database, scan_id: int, progress: Progress, display: Display) -> None:
    """Keep the display up to date until cancelled."""
    phase, totals = "", {}
    while True:
        if progress.phase != phase:
            phase = progress.phase
            counts = await database.read(lambda connection: standing(connection, scan_id))
            totals = {"domains": counts.unrouted, "endpoints": counts.endpoints - counts.measured - counts.failed}
        display.update(progress, totals)
        await asyncio.sleep(WATCH_SECONDS)


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a stop; a second one ends the program at once, and `--resume` goes on all the same."""
    loop = asyncio.get_running_loop()

    def ask() -> None:
        stop.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
