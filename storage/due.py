"""What is still to do at an address: the ledger's rows of all its MX host names together.

A scan in one process works through endpoints in seeded order; a fleet works address by address, and asks here each
time that it turns to one. The rules are those of `storage.ledger`: an attempt that is due and has no observation is
work, and a claim without an observation comes back as the next attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, exists, func, select

from scanner.ledger import Work
from scanner.records import Endpoint, Target
from storage.schema import domain, endpoint, mx_address


@dataclass(frozen=True, slots=True)
class AddressWork:
    """An address of a scan: attempts to make in seeded order, and what holds them back.

    `left_at` is when the last session with an observation ended, `cut_off_at` when one began that has none,
    `refusals` how many further attempts servers' refusals have made due.
    """

    works: tuple[Work, ...]
    left_at: datetime | None
    cut_off_at: datetime | None
    refusals: int

    def free_at(self, interval: float, longest: float) -> datetime | None:
        """When the address may be contacted again, seconds between sessions and of the longest session given."""
        pause = timedelta(seconds=interval)
        times = [work.not_before for work in self.works[:1] if work.not_before is not None]
        if self.left_at is not None:
            times.append(self.left_at + pause)
        if self.cut_off_at is not None:  # nobody saw its end
            times.append(self.cut_off_at + timedelta(seconds=longest) + pause)
        return max(times, default=None)


_WORK = (
    select(
        endpoint.c.address,
        endpoint.c.mx_host,
        endpoint.c.port,
        endpoint.c.due_attempt,
        endpoint.c.claimed_attempt,
        endpoint.c.last_attempt,
        endpoint.c.claimed_at,
        endpoint.c.ended_at,
        endpoint.c.not_before,
        endpoint.c.done,
    )
    .join(
        mx_address,
        and_(
            mx_address.c.scan_id == endpoint.c.scan_id,
            mx_address.c.mx_host == endpoint.c.mx_host,
            mx_address.c.address == endpoint.c.address,
        ),
    )
    .where(
        mx_address.c.scan_id == bindparam("scan_id"),
        mx_address.c.address.in_(bindparam("addresses", expanding=True)),
    )
    .order_by(endpoint.c.address, endpoint.c.order_key, endpoint.c.mx_host, endpoint.c.port)
)


def work_of_addresses(connection: Connection, scan_id: int, addresses: Sequence[str]) -> dict[str, AddressWork]:
    """The work of each address that has endpoints in the scan."""
    found = connection.execute(_WORK, {"scan_id": scan_id, "addresses": addresses})
    return {address: _address_work(list(rows)) for address, rows in groupby(found, itemgetter(0))}


def _address_work(rows: Sequence[Row[*tuple[Any, ...]]]) -> AddressWork:
    works, left, cut_off = [], [], []
    for row in rows:
        unanswered = row.claimed_attempt > row.last_attempt
        if row.ended_at is not None:
            left.append(row.ended_at)
        if unanswered and row.claimed_at is not None:
            cut_off.append(row.claimed_at)
        if not row.done:
            attempt = max(row.due_attempt, row.claimed_attempt + 1 if unanswered else 1)
            at = Endpoint(row.mx_host, row.address, row.port)
            works.append(Work(at, attempt, None if unanswered else row.not_before))
    refusals = sum(max(0, row.due_attempt - 1) for row in rows)
    return AddressWork(tuple(works), max(left, default=None), max(cut_off, default=None), refusals)


def unrouted(connection: Connection, scan_id: int, first: int, last: int) -> list[Target]:
    """The targets without routing whose order key lies from `first` to `last`."""
    query = (
        select(domain.c.domain, domain.c.weight, domain.c.rank)
        .where(domain.c.scan_id == scan_id, domain.c.order_key.between(first, last), domain.c.routing.is_(None))
        .order_by(domain.c.order_key, domain.c.domain)
    )
    return [Target(*row) for row in connection.execute(query)]


def has_unrouted(connection: Connection, scan_id: int) -> bool:
    """Whether any target of the scan has no routing yet."""
    return bool(connection.scalar(select(exists().where(domain.c.scan_id == scan_id, domain.c.routing.is_(None)))))


def ranges(connection: Connection, scan_id: int, size: int) -> list[tuple[int, int]]:
    """The order keys of a scan's unrouted targets in ranges of about `size` targets, both ends included."""
    numbered = (
        select(
            domain.c.order_key,
            ((func.row_number().over(order_by=domain.c.order_key) - 1) / size).label("part"),
        )
        .where(domain.c.scan_id == scan_id, domain.c.routing.is_(None))
        .subquery()
    )
    part = func.floor(numbered.c.part)
    query = select(func.min(numbered.c.order_key), func.max(numbered.c.order_key)).group_by(part).order_by(part)
    return [(int(first), int(last)) for first, last in connection.execute(query)]
