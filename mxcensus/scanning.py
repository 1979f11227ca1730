"""The composition root of a scan: opens everything, joins it, and closes it in the right order.

Here a scanner that knows no database meets a storage that knows no network.
"""

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from mxcensus import __version__, classification, inputs, reporting
from mxcensus.collector import rare_collections
from mxcensus.inputs import Targets
from mxcensus.plan import BadPlan, Plan
from mxcensus.progress import Display
from mxcensus.second_looks import look_again
from mxcensus.steps import fetching, make_steps, now, source_addresses
from mxcensus.watchers import Watcher, watching
from reports.terminal import print_summary as print_report
from scanner import names, operators, policy, software
from scanner.records import ScanInfo, Target
from scanner.resolver import Resolver
from scanner.scan import Progress, scan
from scanner.shards import Shard
from storage.database import Database, open_database
from storage.ledger import SqlLedger
from storage.standing import Standing, standing
from storage.writer import Writer

ANONYMOUS_DOMAINS = 10
"""How many domains may be scanned without saying who asks."""

WATCH_SECONDS = 0.25
SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    progress = Progress()
    with watching(plan, progress) as watchers:
        database = open_database(plan.database, create=not plan.resume)
        try:
            with rare_collections(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_run(plan, database, targets, first, display, progress, watchers))
        finally:
            database.close()


def check_begin(plan: Plan, targets: Targets) -> Iterator[Target]:
    """The targets, from the first; raises `BadPlan` where there is none, or nobody to ask about so many."""
    stream = iter(targets)
    distinct: set[str] = set()
    first = list(_while_anonymous(stream, distinct))
    if not first and not plan.resume:
        skipped = f" ({targets.bad_lines} bad lines, {targets.excluded} excluded)" if targets else ""
        raise BadPlan(f"no domain to scan{skipped}")
    if len(distinct) > ANONYMOUS_DOMAINS and not (plan.ehlo_name and plan.contact):
        raise BadPlan(f"more than {ANONYMOUS_DOMAINS} domains need --ehlo-name and --contact")
    return chain(first, stream)


def _while_anonymous(stream: Iterator[Target], distinct: set[str]) -> Iterator[Target]:
    """Targets up to the one that makes too many domains to be anonymous; their names go into `distinct`."""
    for target in stream:
        distinct.add(target.domain)
        yield target
        if len(distinct) > ANONYMOUS_DOMAINS:
            return


async def _run(
    plan: Plan,
    database: Database,
    targets: Targets,
    stream: Iterator[Target],
    display: Display,
    progress: Progress,
    watchers: Sequence[Watcher],
) -> Outcome:
    began = time.monotonic()
    stop = asyncio.Event()
    with stopped_by_signals(stop):
        info = await _begin(plan, database, bool(targets))
        if plan.resume:
            plan = as_begun(plan, info)
            stream = (target for target in stream if not plan.exclusions.domain(target.domain))
        await _scan(plan, database, info, stream, progress, watchers, display, stop)
        if plan.both_key_types:
            await look_again(plan, database, info, watchers, stop)
        database.let_go()
        await asyncio.to_thread(classification.classify_scan, database, info.scan, plan.trust)
        database.let_go()
        state = "interrupted" if stop.is_set() else "finished"
        await database.set_state(info.scan, state, now())
    return Outcome(
        scan=info.scan,
        standing=await database.read(lambda connection: standing(connection, info.scan)),
        seconds=time.monotonic() - began,
        interrupted=stop.is_set(),
        stopped_operators=tuple(sorted(progress.stopped_operators)),
        excluded=targets.excluded,
    )


async def _begin(plan: Plan, database: Database, began_with: bool) -> ScanInfo:
    """The scan to work on: a new one, or the latest one where it has something left to do."""
    if not plan.resume:
        scan_id = await database.new_scan(
            label=plan.label,
            started_at=now(),
            tool_version=__version__,
            rules_version=policy.RULES_VERSION,
            trust_id=plan.trust.id,
            seed=plan.scan.seed,
            settings=plan.manifest(source_addresses()),
            state="loading",
        )
        return await asyncio.to_thread(database.scan_info, scan_id)
    info = await asyncio.to_thread(database.scan_info)
    if info.state == "finished" and not await _has_work(database, info.scan, policies=plan.mta_sts):
        raise BadPlan(f"scan {info.scan} is finished: there is nothing to resume")
    if info.state == "loading" and not began_with:
        raise BadPlan(f"scan {info.scan} was stopped while its targets were read: name them again")
    return info


async def _has_work(database: Database, scan_id: int, *, policies: bool) -> bool:
    counts = await database.read(lambda connection: standing(connection, scan_id))
    return counts.parked > 0 or (policies and counts.policies_due > 0)


async def _scan(
    plan: Plan,
    database: Database,
    info: ScanInfo,
    stream: Iterator[Target],
    progress: Progress,
    watchers: Sequence[Watcher],
    display: Display,
    stop: asyncio.Event,
) -> None:
    settings = plan.scan
    writer = Writer(
        database,
        info.scan,
        seed=info.seed,
        operator_of=operators.operator,
        software_of=software.of_observation,
        ca_name_text=names.shown,
    )
    ledger = SqlLedger(database, writer, info.scan, seed=info.seed, interval=settings.limits.interval)
    if info.state == "loading":
        await ledger.add_targets(stream)
    await database.set_state(info.scan, "running")
    with display.showing():
        watcher = asyncio.ensure_future(_watch(database, info.scan, progress, display))
        try:
            async with (
                writer,
                Resolver(plan.resolvers) as resolver,
                fetching(plan) as fetch,
                aclosing(
                    scan(ledger, settings, make_steps(plan, resolver, watchers, fetch), stop, progress)
                ) as records,
            ):
                async for record in records:
                    await writer.write(record)
        finally:
            watcher.cancel()


def as_begun(plan: Plan, info: ScanInfo) -> Plan:
    """A resumed scan goes on as it began: seed, sample, port, names per address, who asks, opt-outs and manners.

    Opt-outs are read again from the files that they came from, and new ones added; limits that the command line
    names are the new ones. Raises `BadPlan` where a file of opt-outs has gone and no other is named in its place.
    """
    begun: dict[str, Any] = dict(info.settings)
    files = [Path(file) for file in begun.get("exclude_files", ())]
    gone = [file for file in files if not file.is_file()]
    if gone and "exclude" not in plan.given:
        raise BadPlan(f"scan {info.scan} began with the opt-outs of {gone[0]}, which has gone: name them --exclude")
    kept = {name: value for name, value in begun["limits"].items() if name not in plan.given}
    return replace(
        plan,
        ehlo_name=plan.ehlo_name or begun["ehlo_name"],
        contact=plan.contact or begun["contact"],
        timeout=plan.timeout if "timeout" in plan.given else begun["timeout"],
        mta_sts=plan.mta_sts or begun.get("mta_sts", False),
        mta_sts_port=plan.mta_sts_port if "mta_sts_port" in plan.given else begun.get("mta_sts_port", 443),
        allow_special_purpose=plan.allow_special_purpose or begun["allow_special_purpose"],
        both_key_types=plan.both_key_types or begun.get("both_key_types", False),
        exclusions=plan.exclusions | inputs.read_exclusions([file for file in files if file.is_file()]),
        scan=replace(
            plan.scan,
            seed=info.seed,
            port=begun["port"],
            names_per_address=begun["names_per_address"],
            shard=Shard.parse(begun["shard"]) if begun.get("shard") else None,
            sample=begun.get("sample"),
            limits=replace(plan.scan.limits, **kept),
        ),
    )


async def _watch(database: Database, scan_id: int, progress: Progress, display: Display) -> None:
    """Keep the display up to date until cancelled."""
    phase, totals = "", {}
    while True:
        if progress.phase != phase:
            phase = progress.phase
            counts = await database.read(lambda connection: standing(connection, scan_id))
            totals = {"domains": counts.unrouted, "endpoints": counts.due}
        display.update(progress, totals)
        await asyncio.sleep(WATCH_SECONDS)


@contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a stop; a second one ends the program at once, which loses nothing either."""
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


def print_summary(url: str, outcome: Outcome) -> None:
    """What a person reads when a scan has ended; the figures are those of `mxcensus report`."""
    database = open_database(url, create=False)
    try:
        print_report(reporting.build(database, outcome.scan), Console())
    finally:
        database.close()
    for line in remarks(outcome):
        print(line)


def remarks(outcome: Outcome) -> Iterator[str]:
    """What else a person should know about how the scan ended, a line each."""
    counts = outcome.standing
    yield f"scan {outcome.scan}: {counts.measured} of {counts.endpoints} endpoints in {outcome.seconds:.1f} s"
    if counts.domains and counts.unanswered == counts.domains:
        yield "no DNS question was answered: is the resolver the right one, and can it be reached?"
    if outcome.excluded:
        yield f"{outcome.excluded} domains opted out"
    if outcome.stopped_operators:
        yield f"stopped, since they say that we are blocked: {', '.join(outcome.stopped_operators)}"
    if counts.parked:
        yield f"{counts.parked} endpoints asked for a pause: run again later with --resume"
    if outcome.interrupted:
        yield "interrupted; what was measured is stored: go on with --resume"
