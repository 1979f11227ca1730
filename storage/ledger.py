"""The durable ledger of a scan: `scanner.ledger.Ledger` on the tables of the scan itself.

There is no queue beside the results. A `domain` without routing is a lookup to make; an `endpoint` with an attempt
due that has no observation is a session to make. So what is stored and what is still to do cannot disagree, and
after the process is killed at any moment the same call goes on:

- work is handed out in the order of its seeded key, each run from the beginning, by a cursor that only
  goes forward;
- an attempt is claimed, and the claim committed, before anybody dials. A claim without an observation means that
  the process died in between: the address may have been contacted, so the work comes back as the next attempt,
  and not before the interval has passed since the process can have let go of it;
- an address that another session of an earlier run left less than an interval ago is held back in the same way.

Targets are entered before a scan runs, and only while its state is `loading`; resuming a running scan reads no
targets. A scan that died while it was loading begins to load anew: weights that add must not be added twice.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Table,
    and_,
    case,
    delete,
    func,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import Row as AnyRow

from scanner.ledger import Record, Sample, Work, merge_targets, order_key
from scanner.policy_records import StsRecord
from scanner.records import Endpoint, Failure, Reason, Stage, Target
from storage import dialects, sampled
from storage.database import Database
from storage.dialects import Columns, upsert
from storage.rows import Row, endpoint_key
from storage.schema import domain, endpoint, mta_sts, mx_address, mx_set_host, observation, scan, sts_policy
from storage.store import endpoint_row, greater
from storage.writer import Writer

TARGET_BATCH = 5000
ENROLL_BATCH = 2000
ADDRESS_PAGE = 5000
LONGEST_SESSION = timedelta(hours=1)
"""A claim that is older than this, and the interval, says nothing about the present any more."""

_FIRST = -(2**63)
"""The least order key."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Claims:
    """Claims that are committed in one transaction."""

    rows: dict[Endpoint, Row] = field(default_factory=dict)
    committed: bool = False


class SqlLedger:
    """The ledger of one run of the scan `scan_id`; `interval` is the seconds between two sessions of an address.

    One run at a time: make a new one to resume. Raises `StorageFailed` where a write was given up.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        scan_id: int,
        *,
        seed: int,
        interval: float,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._database = database
        self._writer = writer
        self._scan_id = scan_id
        self._seed = seed
        self._interval = timedelta(seconds=interval)
        self._opened_at = now()
        self._batches_entered: int | None = None
        self._last_domain = (_FIRST, "")
        self._last_policy = ""
        self._last_endpoint: tuple[int, str, str, int] = (_FIRST, "", "", 0)
        self._held_back: Mapping[str, datetime] | None = None
        self._analyzed: set[str] = set()
        self._claims = _Claims()
        self._claiming = asyncio.Lock()

    # ---------------------------------------------------------------------------------------------- targets

    async def add_targets(self, targets: Iterable[Target]) -> None:
        """See the protocol. The first call of a run forgets what a load that was not finished has entered."""
        iterator = iter(targets)
        while batch := list(islice(iterator, TARGET_BATCH)):
            if self._batches_entered is None:
                self._batches_entered = await self._database.run(self._begin_loading)
            merged: dict[str, Target] = {}
            for target in batch:
                merged[target.domain] = merge_targets(merged.get(target.domain), target)
            entering = partial(self._enter, targets=list(merged.values()), number=self._batches_entered)
            await self._database.run(entering)
            self._batches_entered += 1

    def _begin_loading(self, connection: Connection) -> int:
        mine = scan.c.id == self._scan_id
        state, entered = connection.execute(select(scan.c.state, scan.c.target_batches).where(mine)).one()
        if state != "loading":
            return int(entered)
        connection.execute(delete(domain).where(domain.c.scan_id == self._scan_id))
        connection.execute(update(scan).where(mine).values(target_batches=0))
        return 0

    def _enter(self, connection: Connection, targets: Sequence[Target], number: int) -> None:
        # Weights add, so a batch whose commit went unanswered must not be entered again: the scan counts them.
        counted = connection.execute(
            update(scan)
            .where(scan.c.id == self._scan_id, scan.c.target_batches == number)
            .values(target_batches=number + 1)
        )
        if counted.rowcount:
            upsert(connection, domain, [self._domain_row(target) for target in targets], _merged)

    def _domain_row(self, target: Target) -> Row:
        return {
            "scan_id": self._scan_id,
            "domain": target.domain,
            "weight": target.weight,
            "rank": target.rank,
            "order_key": order_key(self._seed, target.domain),
            "authenticated": False,
        }

    async def unrouted(self, limit: int) -> Sequence[Target]:
        await self._analyze(domain)
        rank, name = self._last_domain
        query = (
            select(domain.c.domain, domain.c.weight, domain.c.rank, domain.c.order_key)
            .where(
                domain.c.scan_id == self._scan_id,
                domain.c.routing.is_(None),
                *_after((domain.c.order_key, domain.c.domain), (rank, name)),
            )
            .order_by(domain.c.order_key, domain.c.domain)
            .limit(limit)
        )
        found = await self._fetch(query)
        if found:
            self._last_domain = (found[-1].order_key, found[-1].domain)
        return [Target(row.domain, row.weight, row.rank) for row in found]

    # ------------------------------------------------------------------------------------ what scan() tells

    async def note(self, record: Record) -> None:
        """Nothing to do: the writer stores what `scan` yields, and this ledger reads that."""

    async def settle(self) -> None:
        await self._writer.flush()

    async def addresses(self) -> AsyncIterator[tuple[str, Sequence[str]]]:
        """See the protocol. A page of addresses is held at a time."""
        await self._analyze(mx_address)
        last = ""
        while True:
            page = (
                select(mx_address.c.address)
                .distinct()
                .where(mx_address.c.scan_id == self._scan_id, mx_address.c.address > last)
                .order_by(mx_address.c.address)
                .limit(ADDRESS_PAGE)
            )
            pairs = (
                select(mx_address.c.address, mx_address.c.mx_host)
                .where(mx_address.c.scan_id == self._scan_id, mx_address.c.address.in_(page))
                .order_by(mx_address.c.address, mx_address.c.mx_host)
            )
            found = await self._fetch(pairs)
            if not found:
                return
            for address, group in groupby(found, itemgetter(0)):
                yield address, [host for _, host in group]
            last = found[-1].address

    async def host_domains(self) -> Mapping[str, int]:
        sets = (
            select(domain.c.mx_set, func.count().label("domains"))
            .where(domain.c.scan_id == self._scan_id, domain.c.mx_set.is_not(None))
            .group_by(domain.c.mx_set)
            .subquery()
        )
        # A host that a set names twice, at two preferences, is one host of its domains.
        named = (
            select(mx_set_host.c.mx_set, mx_set_host.c.mx_host)
            .where(mx_set_host.c.scan_id == self._scan_id)
            .distinct()
            .subquery()
        )
        query = (
            select(named.c.mx_host, func.sum(sets.c.domains))
            .join(sets, sets.c.mx_set == named.c.mx_set)
            .group_by(named.c.mx_host)
        )
        return {host: int(domains) for host, domains in await self._fetch(query)}

    async def sample(self) -> Sample | None:
        return await self._database.read(partial(sampled.stored_sample, scan_id=self._scan_id))

    async def keep_sample(self, sample: Sample) -> None:
        await self._database.run(partial(sampled.store_sample, scan_id=self._scan_id, sample=sample))

    async def enroll(self, endpoints: Iterable[tuple[Endpoint, Reason | None]]) -> None:
        iterator = iter(endpoints)
        while batch := dict(islice(iterator, ENROLL_BATCH)):
            await self._database.run(partial(self._enroll, batch=batch))

    def _enroll(self, connection: Connection, batch: Mapping[Endpoint, Reason | None]) -> None:
        refused = [
            self._row(of, reason=reason.value, due_attempt=0) for of, reason in batch.items() if reason is not None
        ]
        upsert(connection, endpoint, [self._row(of) for of, reason in batch.items() if reason is None])
        upsert(connection, endpoint, refused, _refused)

    async def pending(self, limit: int) -> Sequence[Work]:
        await self._analyze(endpoint)
        held_back = await self.held_back()
        key = (endpoint.c.order_key, endpoint.c.mx_host, endpoint.c.address, endpoint.c.port)
        query = (
            select(endpoint)
            .where(endpoint.c.scan_id == self._scan_id, ~endpoint.c.done, *_after(key, self._last_endpoint))
            .order_by(*key)
            .limit(limit)
        )
        found = await self._fetch(query)
        if found:
            last = found[-1]
            self._last_endpoint = (last.order_key, last.mx_host, last.address, last.port)
        works = []
        for row in found:
            unanswered = row.claimed_attempt > row.last_attempt
            attempt = max(row.due_attempt, row.claimed_attempt + 1 if unanswered else 1)
            # A park can be committed a moment before the observation that it follows from; where that one was lost
            # with the process, the session is repeated after the interval, or its row would stay empty.
            parked_until = None if unanswered else row.not_before
            times = [at for at in (parked_until, held_back.get(row.address)) if at is not None]
            works.append(Work(Endpoint(row.mx_host, row.address, row.port), attempt, max(times, default=None)))
        return works

    async def held_back(self) -> Mapping[str, datetime]:
        if self._held_back is None:
            self._held_back = await self._database.read(self._recent_sessions)
        return self._held_back

    def _recent_sessions(self, connection: Connection) -> dict[str, datetime]:
        """Addresses that earlier runs left less than an interval ago, and when they may be contacted again."""
        since = self._opened_at - LONGEST_SESSION - self._interval
        query = select(
            endpoint.c.address,
            endpoint.c.claimed_at,
            endpoint.c.ended_at,
            (endpoint.c.claimed_attempt > endpoint.c.last_attempt).label("unanswered"),
        ).where(
            endpoint.c.scan_id == self._scan_id, or_(endpoint.c.claimed_at > since, endpoint.c.ended_at > since)
        )
        free: dict[str, datetime] = {}
        for row in connection.execute(query):
            # A session that was cut off may have lasted until this run began.
            left = max(row.claimed_at, self._opened_at) if row.unanswered else row.ended_at or row.claimed_at
            if left + self._interval > self._opened_at:
                free[row.address] = max(left + self._interval, free.get(row.address, left))
        fetches = select(sts_policy.c.address, sts_policy.c.claimed_at, sts_policy.c.fetched_at).where(
            sts_policy.c.scan_id == self._scan_id,
            sts_policy.c.address.is_not(None),
            sts_policy.c.claimed_at > since,
        )
        for row in connection.execute(fetches):
            left = row.fetched_at or max(row.claimed_at, self._opened_at)
            if left + self._interval > self._opened_at:
                free[row.address] = max(left + self._interval, free.get(row.address, left))
        return free

    async def refusals(self, means: Callable[[Stage, str], bool]) -> Mapping[str, int]:
        return await self._database.read(partial(self._refusals, means=means))

    def _refusals(self, connection: Connection, means: Callable[[Stage, str], bool]) -> Mapping[str, int]:
        said = observation.c
        query = select(said.mx_host, said.stage, said.greeting, said.detail).where(
            said.scan_id == self._scan_id, said.failure == Failure.NEGATIVE_REPLY.value
        )
        counted: Counter[str] = Counter()
        for row in connection.execute(query.execution_options(yield_per=1000)):
            counted[row.mx_host] += means(Stage(row.stage), f"{row.greeting or ''} {row.detail}")
        return +counted

    # ------------------------------------------------------------------------------------- MTA-STS policies

    async def policies(self, limit: int) -> Sequence[str]:
        fetched = and_(sts_policy.c.scan_id == self._scan_id, sts_policy.c.domain == mta_sts.c.domain)
        query = (
            select(mta_sts.c.domain)
            .outerjoin(sts_policy, fetched)
            .where(
                mta_sts.c.scan_id == self._scan_id,
                mta_sts.c.record == StsRecord.VALID.value,
                sts_policy.c.fetched_at.is_(None),
                mta_sts.c.domain > self._last_policy,
            )
            .order_by(mta_sts.c.domain)
            .limit(limit)
        )
        found = [row.domain for row in await self._fetch(query)]
        self._last_policy = found[-1] if found else self._last_policy
        return found

    async def claim_policies(self, fetches: Sequence[tuple[str, str]], now: datetime) -> None:
        rows = [
            {"scan_id": self._scan_id, "domain": name, "address": address, "claimed_at": now}
            for name, address in fetches
        ]
        await self._database.run(lambda connection: upsert(connection, sts_policy, rows, _claimed_policy))

    # --------------------------------------------------------------------------------------- while probing

    async def claim(self, works: Sequence[Work], now: datetime) -> None:
        """See the protocol. Claims that come while others are being committed share the next transaction."""
        mine = self._claims
        for work in works:
            mine.rows[work.endpoint] = self._claim(work, now)
        async with self._claiming:
            if mine.committed:
                return
            if self._claims is mine:
                self._claims = _Claims()
            await self._database.run(partial(_enter_claims, rows=mine.rows))
            mine.committed = True

    def claim_within(self, connection: Connection, works: Iterable[tuple[Work, datetime]]) -> None:
        """What `claim` does, each at its time, as a part of somebody's transaction."""
        _enter_claims(connection, {work.endpoint: self._claim(work, at) for work, at in works})

    def _claim(self, work: Work, at: datetime) -> Row:
        return self._row(work.endpoint, due_attempt=work.attempt, claimed_attempt=work.attempt, claimed_at=at)

    async def park(self, work: Work, reason: Reason) -> None:
        row = self._row(
            work.endpoint,
            reason=reason.value,
            due_attempt=work.attempt if reason is Reason.PARKED else 0,
            not_before=work.not_before,
        )
        change = _parked if reason is Reason.PARKED else _refused
        await self._database.run(lambda connection: upsert(connection, endpoint, [row], change))

    def _row(self, of: Endpoint, **values: object) -> Row:
        return endpoint_row(endpoint_key(self._scan_id, self._seed, of), **values)

    async def _analyze(self, table: Table) -> None:
        """Once a run, before its pages: guessing, PostgreSQL sorts all that is left for each of them."""
        if table.name not in self._analyzed:
            self._analyzed.add(table.name)
            await self._database.run(partial(dialects.analyze, table=table))

    async def _fetch(self, query: Executable) -> Sequence[AnyRow[*tuple[Any, ...]]]:
        return await self._database.read(lambda connection: connection.execute(query).all())


def _after(columns: Sequence[ColumnElement[object]], last: Sequence[object]) -> list[ColumnElement[bool]]:
    """Rows that follow `last` in the order of `columns`; the first condition is there for the index."""
    return [columns[0] >= last[0], tuple_(*columns) > tuple_(*last)]


def _merged(new: Columns) -> Columns:
    """Weights add, and the smaller rank stays; NULL is no weight and no rank."""
    stored = domain.c
    weight = func.coalesce(stored.weight + new["weight"], stored.weight, new["weight"])
    smaller = case((new["rank"] < stored.rank, new["rank"]), else_=func.coalesce(stored.rank, new["rank"]))
    return {"weight": weight, "rank": smaller}


def _refused(new: Columns) -> Columns:
    """No attempt is due any more; the reason stands unless a session took place."""
    stored = endpoint.c
    return {
        "due_attempt": new["due_attempt"],
        "reason": case(
            # An opt-out that comes after the draw changes nothing for an address that was not drawn.
            (or_(stored.last_attempt > 0, stored.reason == Reason.NOT_SAMPLED.value), stored.reason),
            else_=new["reason"],
        ),
    }


def _enter_claims(connection: Connection, rows: Mapping[Endpoint, Row]) -> None:
    upsert(connection, endpoint, list(rows.values()), _claimed)


def _claimed(new: Columns) -> Columns:
    stored = endpoint.c
    return {
        "due_attempt": greater(new["due_attempt"], stored.due_attempt),
        "claimed_attempt": greater(new["claimed_attempt"], stored.claimed_attempt),
        "claimed_at": new["claimed_at"],
        "reason": null(),
    }


def _claimed_policy(new: Columns) -> Columns:
    return {name: new[name] for name in ("address", "claimed_at")}


def _parked(new: Columns) -> Columns:
    stored = endpoint.c
    return {
        "due_attempt": greater(new["due_attempt"], stored.due_attempt),
        "not_before": new["not_before"],
        "reason": new["reason"],
    }
