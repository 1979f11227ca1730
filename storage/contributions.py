"""Who contributes to the figures of one scan: each unit's operators, by number, never by name.

    endpoints_of, units_of     profile -> units of an operator all of whose members have it
    members_of                 the other units, a row a member, unit after unit
    domains_of, domain_members the same for domains, an MX set at a time

`storage.counts` says how many units there are of a kind; this says whose they are, which disclosure control needs.
Operators are numbers that mean nothing outside one call.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, and_, func, literal, select
from sqlalchemy.sql.selectable import Select

from storage.profiles import Profile, fill_domains, tables
from storage.schema import mx_set_host
from storage.temporary import DOMAINS, MEMBER, UNITS

Numbers = frozenset[int]
"""Numbers of profiles; `NO_ADDRESS` and `NOT_ENROLLED` may be among them."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one operator has in units of one kind.

    `own` are the profiles of its members of such a unit, `every` those of all members, `count` the number of
    units like this, `weight` their weight (domains only). A unit of several operators is a part of each.
    """

    operator: int
    own: Numbers
    every: Numbers
    count: int
    weight: float


@dataclass(frozen=True, slots=True)
class Contributions:
    """The parts of one scan, read unit by unit, and the facts behind their profiles."""

    connection: Connection
    scan_id: int
    profiles: Mapping[int, Profile]

    def parts(self, unit: str) -> Iterator[Part]:
        """Every part of the units of a kind: `certificate, endpoint, address, mx_host, operator, domain`."""
        numbers: dict[str, int] = {}
        if unit == "endpoint":
            alike, differing = endpoints_of(), None
        elif unit == "domain":
            alike, differing = domains_of(self.scan_id), domain_members(self.scan_id)
        else:
            alike, differing = units_of(unit), members_of(unit)
        for operator, profile, count, weight in self._rows(alike):
            kind = frozenset({profile})
            yield Part(numbers.setdefault(operator, len(numbers)), kind, kind, int(count), weight)
        if differing is not None:
            yield from self._differing(differing, numbers)

    def _differing(self, statement: Select[*tuple[Any, ...]], numbers: dict[str, int]) -> Iterator[Part]:
        for _, rows in groupby(self._rows(statement), itemgetter(0)):
            members = list(rows)
            every = frozenset(row.profile for row in members)
            for operator in {row.operator for row in members}:
                own = frozenset(row.profile for row in members if row.operator == operator)
                number = numbers.setdefault(operator, len(numbers))
                yield Part(number, own, every, int(members[0].units), members[0].weight)

    def _rows(self, statement: Select[*tuple[Any, ...]]) -> Iterator[Any]:
        yield from self.connection.execute(statement, execution_options={"yield_per": 10_000})


@contextmanager
def reading(connection: Connection, scan_id: int) -> Iterator[Contributions]:
    """The contributions of a scan, for as long as the block lasts."""
    with tables(connection, scan_id) as profiles:
        fill_domains(connection, scan_id)
        yield Contributions(connection, scan_id, profiles)


# -------------------------------------------------------------------------------------------------- SELECTs


def endpoints_of() -> Select[*tuple[Any, ...]]:
    """(operator, profile) -> endpoints."""
    both = (MEMBER.c.operator, MEMBER.c.profile)
    return select(*both, func.count(), literal(0.0)).where(MEMBER.c.address.is_not(None)).group_by(*both)


def units_of(unit: str) -> Select[*tuple[Any, ...]]:
    """(operator, profile) -> its certificates, addresses, MX hosts, or itself, where all members have that."""
    table = UNITS[unit]
    pairs = (
        select(MEMBER.c.operator, table.c.low, table.c.unit)
        .join(MEMBER, MEMBER.c[unit] == table.c.unit)
        .where(table.c.low == table.c.high)
        .distinct()
        .subquery()
    )
    both = (pairs.c.operator, pairs.c.low)
    return select(*both, func.count(), literal(0.0)).group_by(*both)


def members_of(unit: str) -> Select[*tuple[Any, ...]]:
    """The other units with the operator and profile of each member, unit after unit."""
    table = UNITS[unit]
    one, nothing = literal(1).label("units"), literal(0.0).label("weight")
    return (
        select(table.c.unit, one, nothing, MEMBER.c.operator, MEMBER.c.profile)
        .join(MEMBER, MEMBER.c[unit] == table.c.unit)
        .where(table.c.low != table.c.high)
        .order_by(table.c.unit)
    )


def domains_of(scan_id: int) -> Select[*tuple[Any, ...]]:
    """(operator, profile) -> domains all of whose endpoints have it, and their weight."""
    pairs = (
        select(MEMBER.c.operator, DOMAINS.c.low, DOMAINS.c.unit, DOMAINS.c.units, DOMAINS.c.weight)
        .select_from(DOMAINS)
        .join(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == DOMAINS.c.unit))
        .join(MEMBER, MEMBER.c.mx_host == mx_set_host.c.mx_host)
        .where(DOMAINS.c.low == DOMAINS.c.high)
        .distinct()
        .subquery()
    )
    both = (pairs.c.operator, pairs.c.low)
    return select(*both, func.sum(pairs.c.units), func.sum(pairs.c.weight)).group_by(*both)


def domain_members(scan_id: int) -> Select[*tuple[Any, ...]]:
    """The other MX sets with their domains and the operator and profile of each member, set after set."""
    return (
        select(
            DOMAINS.c.unit,
            DOMAINS.c.units.label("units"),
            DOMAINS.c.weight.label("weight"),
            MEMBER.c.operator,
            MEMBER.c.profile,
        )
        .select_from(DOMAINS)
        .join(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == DOMAINS.c.unit))
        .join(MEMBER, MEMBER.c.mx_host == mx_set_host.c.mx_host)
        .where(DOMAINS.c.low != DOMAINS.c.high)
        .order_by(DOMAINS.c.unit)
    )
