"""The job that leads a scan: one at a time in the fleet, by its lock, and every step may be repeated.

Names of an address are drawn among all that lead to it, so no address is a job before all domains are routed.
"""

import asyncio
from collections.abc import Awaitable, Callable

from procrastinate import App
from sqlalchemy import Connection, select, update

from mxcensus import classification
from mxcensus.fleet import tables
from mxcensus.fleet.census import Census
from mxcensus.fleet.clock import Clock
from mxcensus.fleet.jobs import Again, defer, probe_job, route_job
from mxcensus.fleet.pace import Operator
from mxcensus.fleet.tables import fleet_scan
from scanner.records import Endpoint, Reason
from scanner.scan import ENROLL_BATCH, select_names
from storage.database import Database
from storage.due import has_unrouted, ranges

DOMAINS_A_JOB = 500
MOST_ROUNDS = 3
"""How often domains that no job routed are put into jobs again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0


class Steward:
    """Does steward jobs for one worker."""

    def __init__(
        self, app: App, database: Database, census_of: Callable[[int], Awaitable[Census]], clock: Clock
    ) -> None:
        self._app = app
        self._database = database
        self._census_of = census_of
        self._clock = clock
        self._pauses: dict[int, float] = {}

    async def lead(self, scan: int) -> None:
        """Go one step on; raises `Again` until the scan is done."""
        census = await self._census_of(scan)
        read = self._database.read
        routing, probing, parked = await read(lambda connection: tables.queue_is_busy(connection, scan))
        phase = await self._phase(scan)
        if routing or (phase == "route" and await self._left_over(scan)):
            raise self._again(scan)
        if phase == "route":
            self._pauses.pop(scan, None)
            await self._select(census)
            await self._set(scan, phase="probe")
            raise self._again(scan)
        if probing:
            raise self._again(scan)
        await asyncio.to_thread(classification.classify_scan, self._database, scan, census.plan.trust)
        await self._database.set_state(scan, "finished", self._clock.now())
        if parked is not None:
            raise Again(max(parked, self._clock.seconds()) + LONGEST_PAUSE)
        await self._set(scan, phase="done")

    def _again(self, scan: int) -> Again:
        """Soon at first, then less often."""
        pause = self._pauses.get(scan, FIRST_PAUSE)
        self._pauses[scan] = min(LONGEST_PAUSE, pause * 1.5)
        return Again(self._clock.seconds() + pause)

    async def _phase(self, scan: int) -> str:
        query = select(fleet_scan.c.phase).where(fleet_scan.c.scan_id == scan)
        return str(await self._database.read(lambda connection: connection.execute(query).scalar_one()))

    async def _set(self, scan: int, **values: object) -> None:
        change = update(fleet_scan).where(fleet_scan.c.scan_id == scan).values(**values)
        await self._database.run(lambda connection: connection.execute(change).rowcount)

    async def _left_over(self, scan: int) -> bool:
        """Whether domains without routing are left, with nobody at work on them; they become jobs again."""
        rounds = select(fleet_scan.c.rounds).where(fleet_scan.c.scan_id == scan)
        done = await self._database.read(lambda connection: connection.execute(rounds).scalar_one())
        if done >= MOST_ROUNDS or not await self._database.read(lambda connection: has_unrouted(connection, scan)):
            return False
        await self._set(scan, rounds=done + 1)
        keys = await self._database.read(lambda connection: ranges(connection, scan, DOMAINS_A_JOB))
        await defer(self._app, (route_job(scan, key) for key in keys))
        return True

    async def _select(self, census: Census) -> None:
        """Enter the endpoints of every address, and make a job of each that has something to do."""
        planned: dict[str, Operator] = {}
        pages = 0
        entries: list[tuple[Endpoint, Reason | None]] = []
        wanted: list[tuple[str, float]] = []
        async for address, hosts in census.ledger.addresses():
            selected = select_names(address, hosts, census.plan.scan, census.steps.refusal)
            entries += selected
            first = next((of for of, reason in selected if reason is None), None)
            if first is not None:
                wanted.append((address, self._ticket(census, planned, first)))
            if len(entries) >= ENROLL_BATCH:
                await self._enter(census, entries, wanted)
                entries, wanted = [], []
                pages += 1
                if pages == 1:  # workers take the first while the rest is entered
                    await self._database.run(tables.analyze)
        await self._enter(census, entries, wanted)
        await self._keep_tickets(planned)
        await self._database.run(tables.analyze)

    def _ticket(self, census: Census, planned: dict[str, Operator], endpoint: Endpoint) -> float:
        """When the address can be contacted at the earliest: an operator's addresses come one after another."""
        name = census.steps.operator_of(endpoint.mx_host)
        operator = planned.setdefault(name, Operator(name))
        return operator.ticket(self._clock.seconds(), census.plan.scan.limits)

    async def _enter(
        self, census: Census, entries: list[tuple[Endpoint, Reason | None]], wanted: list[tuple[str, float]]
    ) -> None:
        await census.ledger.enroll(entries)
        await defer(self._app, (probe_job(census.scan, address, at) for address, at in wanted))

    async def _keep_tickets(self, planned: dict[str, Operator]) -> None:
        """Whoever has to come again comes after all that are planned."""
        names = sorted(name for name, operator in planned.items())
        for start in range(0, len(names), ENROLL_BATCH):
            page = names[start : start + ENROLL_BATCH]

            def keep(connection: Connection, page: list[str] = page) -> None:
                stored = tables.operators(connection, page)
                for name, operator in stored.items():
                    operator.next_ticket = max(operator.next_ticket, planned[name].next_ticket)
                tables.store_operators(connection, stored.values())

            await self._database.run(keep)
