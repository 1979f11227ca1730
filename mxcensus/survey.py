"""What a scan would do, by asking resolvers only: whom it would contact, how often, and how long that takes.

The routing and selecting are the scan's own (`scanner.scan.survey`), into a ledger that is forgotten.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import uvloop

from mxcensus.plan import BadPlan, Plan
from mxcensus.steps import make_steps
from scanner import operators
from scanner.addresses import network_prefix
from scanner.ledger import MemoryLedger
from scanner.pace import SLOW_START_SECONDS, SLOW_START_SHARE, Limits
from scanner.records import Endpoint, MailRouting, Target
from scanner.resolver import Resolver
from scanner.scan import Progress, survey

SESSION_SECONDS = 3.0
"""What a session is assumed to take: one round trip a line, and a slow greeting now and then."""

LARGEST = 10
PAGE = 10_000


@dataclass(frozen=True, slots=True)
class OperatorLoad:
    """What one operator would see."""

    operator: str
    mx_hosts: int
    addresses: int
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What a scan of the same inputs would do; `seconds` is an estimate, and `bound_by` the limit that decides."""

    domains: int
    routing: Mapping[str, int]
    mx_hosts: int
    addresses: int
    endpoints: int
    connections: int
    not_tested: Mapping[str, int]
    operators: int
    largest: Sequence[OperatorLoad] = field(default_factory=tuple)
    seconds: float = 0.0
    bound_by: str = "nothing"

    def as_dict(self) -> dict[str, object]:
        """The object that `plan --json` prints."""
        return asdict(self)


def run(plan: Plan, targets: Iterable[Target]) -> Survey:
    """Resolve all targets and say what a scan would do. Raises `BadPlan` where there is no target."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(plan, targets))


async def _run(plan: Plan, targets: Iterable[Target]) -> Survey:
    ledger = MemoryLedger(plan.scan.seed)
    await ledger.add_targets(targets)
    routing: Counter[str] = Counter()
    async with Resolver(plan.resolvers) as resolver:
        steps = make_steps(plan, resolver, policies=False)
        async for record in survey(ledger, plan.scan, steps, asyncio.Event(), Progress()):
            if isinstance(record, MailRouting):
                routing[record.routing.value] += 1
    if not routing:
        raise BadPlan("no domain to plan for")
    contacted: list[Endpoint] = []
    while works := await ledger.pending(PAGE):
        contacted += [work.endpoint for work in works]
    everything = [*contacted, *ledger.not_tested]
    loads = operator_loads(contacted, plan.scan.limits)
    seconds, bound_by = polite_seconds(contacted, loads, plan.scan.limits)
    return Survey(
        domains=routing.total(),
        routing=dict(sorted(routing.items())),
        mx_hosts=len({endpoint.mx_host for endpoint in everything}),
        addresses=len({endpoint.address for endpoint in everything}),
        endpoints=len(everything),
        connections=len(contacted),
        not_tested=dict(sorted(Counter(reason.value for reason in ledger.not_tested.values()).items())),
        operators=len(loads),
        largest=loads[:LARGEST],
        seconds=seconds,
        bound_by=bound_by,
    )


def operator_loads(endpoints: Iterable[Endpoint], limits: Limits) -> list[OperatorLoad]:
    """What each operator would see, the most connections first."""
    by_operator: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        by_operator[operators.operator(endpoint.mx_host)].append(endpoint)
    apart = _seconds_apart(limits, limits.per_operator)
    loads = [
        OperatorLoad(
            operator=name,
            mx_hosts=len({endpoint.mx_host for endpoint in theirs}),
            addresses=len({endpoint.address for endpoint in theirs}),
            connections=len(theirs),
            seconds=round(len(theirs) * apart, 1),
        )
        for name, theirs in by_operator.items()
    ]
    return sorted(loads, key=lambda load: (-load.connections, load.operator))


def _seconds_apart(limits: Limits, at_once: int) -> float:
    """Starts are spaced, and only so many sessions run at once: the slower of the two decides."""
    return max(limits.spacing(at_once), SESSION_SECONDS / at_once)


def polite_seconds(
    endpoints: Sequence[Endpoint], loads: Sequence[OperatorLoad], limits: Limits
) -> tuple[float, str]:
    """How long the connections take within the limits, without retries, and which limit decides."""
    if not endpoints:
        return 0.0, "nothing"
    most = max(Counter(endpoint.address for endpoint in endpoints).values())
    bounds: dict[str, float] = {
        "rate": len(endpoints) / limits.rate + SLOW_START_SECONDS * (1 - SLOW_START_SHARE) / 2,
        "concurrency": len(endpoints) * SESSION_SECONDS / limits.concurrency,
        "per-operator": max(load.seconds for load in loads),
        "interval": (most - 1) * (limits.interval + SESSION_SECONDS) + SESSION_SECONDS,
    }
    if limits.per_prefix is not None:
        fullest = max(Counter(network_prefix(endpoint.address) for endpoint in endpoints).values())
        bounds["per-prefix"] = fullest * _seconds_apart(limits, limits.per_prefix)
    decides = max(bounds, key=lambda name: bounds[name])
    return round(bounds[decides], 1), decides
