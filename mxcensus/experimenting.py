"""The composition root of `mxcensus experiment`: hosts and client certificates in, stored trials out.

Whether a machine of others may be used is decided here: it needs an approval, and a scan that saw it ask without
insisting. Everything is checked before the first connection.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from itertools import count

import uvloop

from mxcensus import __version__
from mxcensus.plan import BadPlan, Plan
from mxcensus.scanning import ANONYMOUS_DOMAINS, stopped_by_signals
from mxcensus.steps import is_special, now, refusal_of, session_settings, watched
from mxcensus.watchers import Watcher, watching
from scanner import addresses, operators
from scanner.client_certificates import Variant
from scanner.connections import Planned, Steps
from scanner.experiment import CONTROL, every, experiment, one_a_host
from scanner.records import Endpoint, Observation, ScanInfo
from scanner.resolver import Resolver
from scanner.scan import Progress
from scanner.trials import Outcome, Trial
from storage import experiments
from storage.database import Database, open_database

NO_ADDRESS = "no-address"
_SAYS_NOTHING = frozenset({Outcome.NOT_TESTED.value, Outcome.FAILED.value})


@dataclass(frozen=True, slots=True)
class Request:
    """What an experiment is asked to do: `hosts` are names or addresses, `scan` the one that saw them."""

    hosts: Sequence[str]
    variants: Sequence[Variant]
    approval: str | None
    scan: int | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How an experiment ended; `trials` are rows as stored."""

    experiment: int
    scan: int | None
    trials: Sequence[experiments.Fields]
    approval: str | None
    interrupted: bool

    @property
    def exit_status(self) -> int:
        if self.interrupted:
            return 130
        return 0 if any(row["outcome"] not in _SAYS_NOTHING for row in self.trials) else 1


@dataclass(frozen=True, slots=True)
class _Decided:
    """The connections to make, the trials that are not made, and the scan that was asked, if any was."""

    planned: Sequence[Planned]
    not_tested: Sequence[Trial]
    scan: ScanInfo | None


def run(plan: Plan, request: Request) -> Outcomes:
    """Run one experiment. Raises `BadPlan` where it must not begin."""
    if len(set(request.hosts)) > ANONYMOUS_DOMAINS and not (plan.ehlo_name and plan.contact):
        raise BadPlan(f"more than {ANONYMOUS_DOMAINS} hosts need --ehlo-name and --contact")
    with watching(plan, Progress()) as watchers:
        database = open_database(plan.database, create=True)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_run(plan, request, database, watchers))
        finally:
            database.close()


def stored(database: Database, number: int) -> Outcomes:
    """An earlier experiment, as it was stored. Raises `BadDatabase` where there is none."""
    found = experiments.manifest(database, number)
    rows = experiments.trials(database, number, CONTROL)
    return Outcomes(number, found["settings"].get("scan"), rows, found["approval"], interrupted=False)


async def _run(plan: Plan, request: Request, database: Database, watchers: Sequence[Watcher]) -> Outcomes:
    variants = {CONTROL: session_settings(plan)}
    variants |= {one.label: session_settings(plan, one.certificate) for one in request.variants}
    stop, place = asyncio.Event(), count(1)

    async def probe(endpoint: Endpoint, variant: str) -> Observation:
        return await watched(endpoint, 1, variants[variant], watchers, now)

    steps = Steps(probe, refusal_of(plan), operators.operator, now, random.Random().random)
    with stopped_by_signals(stop):
        endpoints, missing = await _resolve(plan, request.hosts)
        decided = _decide(plan, request, database, endpoints, tuple(variants))
        number = await experiments.begin(
            database,
            started_at=now(),
            tool_version=__version__,
            seed=plan.scan.seed,
            approval=request.approval,
            variants=[
                {"label": one.label, "sha256": one.sha256, "eku_class": one.eku_class.value}
                for one in request.variants
            ],
            settings=_manifest(plan, decided.scan),
        )
        for trial in (*missing, *decided.not_tested):
            await experiments.write(database, number, next(place), trial)
        async with aclosing(experiment(decided.planned, plan.scan.limits, steps, stop)) as trials:
            async for trial in trials:
                await experiments.write(database, number, next(place), trial)
        await experiments.finish(database, number, now())
    rows = experiments.trials(database, number, CONTROL)
    return Outcomes(number, decided.scan.scan if decided.scan else None, rows, request.approval, stop.is_set())


def _manifest(plan: Plan, scan: ScanInfo | None) -> dict[str, object]:
    return {
        "scan": scan.scan if scan else None,
        "port": plan.scan.port,
        "limits": asdict(plan.scan.limits),
        "timeout": plan.timeout,
        "ehlo_name": plan.ehlo_name,
        "contact": plan.contact,
        "allow_special_purpose": plan.allow_special_purpose,
    }


async def _resolve(plan: Plan, hosts: Sequence[str]) -> tuple[list[Endpoint], list[Trial]]:
    """The endpoints of each host, and a trial that was not made for each host without an address."""
    endpoints: dict[Endpoint, None] = {}
    missing = []
    async with Resolver(plan.resolvers) as resolver:
        for host in dict.fromkeys(hosts):
            found = [host] if _is_address(host) else await _addresses(resolver, host)
            endpoints |= dict.fromkeys(Endpoint(host, address, plan.scan.port) for address in found)
            if not found:
                nowhere = Endpoint(host, "", plan.scan.port)
                missing.append(Trial(nowhere, CONTROL, Outcome.NOT_TESTED, NO_ADDRESS))
    return list(endpoints), missing


def _is_address(host: str) -> bool:
    try:
        addresses.parse(host)
    except ValueError:
        return False
    return True


async def _addresses(resolver: Resolver, host: str) -> list[str]:
    answers = await resolver.query_many([(host, "A"), (host, "AAAA")])
    return [str(address) for answer in answers for address in answer.data]


def _decide(
    plan: Plan, request: Request, database: Database, endpoints: Sequence[Endpoint], variants: Sequence[str]
) -> _Decided:
    """Which connections to make: all variants at one's own machines, one a host at those of others."""
    refuse = refusal_of(plan)
    refused: list[Trial] = []
    own: list[Endpoint] = []
    others: list[Endpoint] = []
    for endpoint in endpoints:
        reason = refuse(endpoint)
        if reason is not None:
            refused.append(_not_made(endpoint, reason.value))
        else:
            (own if is_special(endpoint.address) else others).append(endpoint)
    planned = every(own, variants, plan.scan.seed)
    if not others:
        return _Decided(planned, refused, None)
    if not (request.approval or "").strip():
        raise BadPlan(f"{others[0].mx_host} is no machine of this lab: an experiment with others needs --approval")
    if not (plan.ehlo_name and plan.contact):
        raise BadPlan("an experiment with machines of others needs --ehlo-name and --contact")
    scan, allowed = database.scan_info(request.scan), []
    with database.reading() as connection:
        for endpoint in others:
            why = experiments.refusal(*experiments.seen(connection, scan.scan, scan.seed, endpoint))
            if why is None:
                allowed.append(endpoint)
            else:
                refused.append(_not_made(endpoint, why))
    return _Decided([*planned, *one_a_host(allowed, variants, plan.scan.seed)], refused, scan)


def _not_made(endpoint: Endpoint, reason: str) -> Trial:
    return Trial(endpoint, CONTROL, Outcome.NOT_TESTED, reason)
