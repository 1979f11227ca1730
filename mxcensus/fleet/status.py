"""How a fleet gets on, in a few cheap questions to the database."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from sqlalchemy import Connection, func, select, text

from mxcensus.fleet.tables import fleet_operator, fleet_scan, fleet_worker
from storage.schema import scan

KINDS = ("route", "probe", "parked", "failed")
GONE_SECONDS = 90.0
"""A worker that was not seen for longer is shown as gone."""


@dataclass(frozen=True, slots=True)
class ScanStatus:
    """One scan, with jobs that wait or run: `route` is some hundred domains, `probe` and `parked` an address."""

    scan: int
    label: str | None
    phase: str
    route: int
    probe: int
    parked: int
    failed: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, with what it did in all and lately (a second)."""

    name: str
    version: str
    alive: bool
    sessions: int
    domains: int
    in_flight: int
    sessions_rate: float
    domains_rate: float


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """A fleet; `seconds` are what the known addresses still take, None where nothing moves."""

    scans: tuple[ScanStatus, ...]
    workers: tuple[WorkerStatus, ...]
    sessions_rate: float
    domains_rate: float
    backlog: int
    parked: int
    seconds: float | None
    stopped_operators: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, object]:
        """The object that `fleet status --json` prints."""
        return asdict(self)


def status(connection: Connection) -> FleetStatus:
    """Read where the fleet stands."""
    now = float(connection.execute(text("SELECT extract(epoch FROM now())")).scalar_one())
    jobs = _jobs(connection)
    query = select(fleet_scan.c.scan_id, scan.c.label, fleet_scan.c.phase).join(
        scan, scan.c.id == fleet_scan.c.scan_id
    )
    scans = tuple(
        ScanStatus(number, label, phase, *(jobs.get((kind, number), 0) for kind in KINDS))
        for number, label, phase in connection.execute(query.order_by(fleet_scan.c.scan_id))
    )  # fmt: skip
    workers = tuple(
        WorkerStatus(
            row.name, row.version, now - row.seen_at < GONE_SECONDS, row.sessions, row.domains, row.in_flight,
            row.sessions_rate, row.domains_rate,
        )
        for row in connection.execute(select(fleet_worker).order_by(fleet_worker.c.name))
    )  # fmt: skip
    alive = [worker for worker in workers if worker.alive]
    sessions = sum(worker.sessions_rate for worker in alive)
    backlog = sum(found.probe for found in scans)
    last_ticket = connection.execute(select(func.max(fleet_operator.c.next_ticket))).scalar_one()
    open_scans = {str(found.scan) for found in scans if found.phase != "done"}
    blocked = (
        connection.execute(select(fleet_operator.c.name, fleet_operator.c.blocked)).all() if open_scans else []
    )
    return FleetStatus(
        scans=scans,
        workers=workers,
        sessions_rate=round(sessions, 2),
        domains_rate=round(sum(worker.domains_rate for worker in alive), 2),
        backlog=backlog,
        parked=sum(found.parked for found in scans),
        seconds=_seconds(backlog, sessions, (last_ticket or now) - now),
        stopped_operators=tuple(
            name
            for name, by_scan in blocked
            if any(n > 1 and number in open_scans for number, n in by_scan.items())
        ),
    )


def _seconds(backlog: int, rate: float, until_last_ticket: float) -> float | None:
    """The slower of two decides: what all workers do a second, and the longest queue at one operator."""
    if not backlog:
        return 0.0
    if rate <= 0:
        return None
    return round(max(backlog / rate, until_last_ticket), 1)


def _jobs(connection: Connection) -> Mapping[tuple[str, int], int]:
    """Jobs that wait or run by kind and scan; those that failed for good as kind `failed`."""
    query = text(
        """
        SELECT CASE WHEN status IN ('todo', 'doing') THEN split_part(queue_name, ':', 1) ELSE 'failed' END AS kind,
               split_part(queue_name, ':', 2)::integer AS scan, count(*)
        FROM procrastinate_jobs WHERE queue_name LIKE '%:%' GROUP BY 1, 2
        """
    )
    return {(kind, number): count for kind, number, count in connection.execute(query)}


def lines(found: FleetStatus) -> Iterator[str]:
    """The same for people."""
    for one in found.scans:
        label = f" ({one.label})" if one.label else ""
        yield (
            f"scan {one.scan}{label}: {one.phase}; {one.route} DNS jobs, {one.probe} addresses to contact,"
            f" {one.parked} parked" + (f", {one.failed} FAILED" if one.failed else "")
        )
    for worker in found.workers:
        yield (
            f"worker {worker.name} {'' if worker.alive else 'GONE '}({worker.version}): {worker.sessions} sessions"
            f" ({worker.sessions_rate:.1f}/s), {worker.domains} domains ({worker.domains_rate:.1f}/s),"
            f" {worker.in_flight} in flight"
        )
    left = "unknown" if found.seconds is None else str(timedelta(seconds=round(found.seconds)))
    yield f"{found.sessions_rate:.1f} sessions/s, backlog {found.backlog}, parked {found.parked}, time left {left}"
    if found.stopped_operators:
        yield f"stopped, since they say that we are blocked: {', '.join(found.stopped_operators)}"
