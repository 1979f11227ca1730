"""Counts one scan for the reports: each aggregate one named SELECT, the same on SQLite and PostgreSQL.

    alike, domains_alike     units whose members all have one profile: profile -> how many
    differing, ..._differing the other units, a row a member, unit after unit
    routing_amounts          domains by routing
    names_per_address        addresses by what their names present
    private_spread           private issuers by number of operators

Both kinds of units become tallies: which set of combinations of a family of facts -> how many units. That is a
short list even for a million domains, and every figure is a projection of one that `reports.figures` makes without
SQL. Domains with the same MX records are counted once a set, never one by one. `storage.profiles` prepares the
tables that this reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType

from sqlalchemy import Connection, and_, case, distinct, func, literal, or_, select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from scanner.records import Hierarchy, Status
from storage.profiles import DOMAINS, FACTS, MEMBER, NO_ADDRESS, NOT_ENROLLED, UNITS, Profile, tables
from storage.schema import certificate, classification, domain, mx_set_host

REACH = "reach"
"""The family of facts that every endpoint has; the others are of measured endpoints only."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        REACH: ("status", "reason", "stage", "failure"),
        "use": ("eku", "hierarchy", "client_auth", "operators"),
        "trust": ("programs", "operators"),
        "issuer": ("ca_owner",),
        "form": ("key_type", "key_bits", "validity"),
        "server": ("software", "tls_version", "eku"),
    }
)
"""Facts that are counted together. A family has few combinations; all facts together could have too many."""

Numbered = Mapping[int, tuple[str, ...]]
"""The number of a combination -> its facts, in the order of the family."""

SPREADS = ((1, "1"), (9, "2-9"), (99, "10-99"))
SPREAD_MORE = "100 or more"
ONE_NAME, SAME_CERTIFICATE, DIFFERENT_CERTIFICATES = "one-name", "same-certificate", "different-certificates"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many units have exactly this set of numbers; `weight` is the sum of theirs (domains only)."""

    numbers: tuple[int, ...]
    count: int
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of units and the sum of their weights."""

    count: int
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """All that the figures of one scan are computed from.

    `facts` has, for each family of `FAMILIES`, the facts behind its numbers. `tallies` has, for
    each of `certificate, endpoint, address, mx_host, operator, domain` and each family, the units by the set of
    their numbers; units without any are missing. `domain` has the domains with an MX set only; all of them are in
    `routing`, which counts by (routing or None while unresolved, has an MX set). `weighted` says whether any
    domain came with a weight. `names_per_address` and `private_spread` count measured addresses and private
    issuers.
    """

    facts: Mapping[str, Numbered]
    tallies: Mapping[tuple[str, str], tuple[Tally, ...]]
    routing: Mapping[tuple[str | None, bool], Amount]
    weighted: bool
    names_per_address: Mapping[str, int]
    private_spread: Mapping[str, int]


def read(connection: Connection, scan_id: int) -> Counts:
    """Count the scan; everything is empty for a scan that does not exist."""
    weighted = connection.execute(any_weight(scan_id)).first() is not None
    with tables(connection, scan_id, weighted=weighted) as profiles:
        families = _Families(profiles)
        tallies: dict[tuple[str, str], tuple[Tally, ...]] = {}
        for unit in (*UNITS, "endpoint", "domain"):
            found = _sets(connection, scan_id, unit)
            tallies |= {(unit, family): families.tallies(family, found) for family in FAMILIES}
        routing = {
            (row.routing, bool(row.has_set)): Amount(row.domains, row.weight or 0.0)
            for row in connection.execute(routing_amounts(scan_id))
        }
        return Counts(
            facts=families.facts,
            tallies=MappingProxyType(tallies),
            routing=MappingProxyType(routing),
            weighted=weighted,
            names_per_address=_pairs(connection, names_per_address()),
            private_spread=_pairs(connection, private_spread(scan_id)),
        )


_Sets = Mapping[tuple[int, ...], Amount]
"""Set of profiles -> units that have exactly these."""


class _Families:
    """The combinations of each family, numbered from 1, and which profile has which."""

    def __init__(self, profiles: Mapping[int, Profile]) -> None:
        self.facts: dict[str, dict[int, tuple[str, ...]]] = {}
        self._numbers: dict[str, dict[int, int]] = {}
        for family, names in FAMILIES.items():
            places = [FACTS.index(name) for name in names]
            found: dict[tuple[str, ...], int] = {}
            own = {NO_ADDRESS: NO_ADDRESS, NOT_ENROLLED: NOT_ENROLLED} if family == REACH else {}
            for number, profile in profiles.items():
                if family == REACH or profile[0] == Status.MEASURED:
                    key = tuple([profile[at] for at in places])
                    own[number] = found.setdefault(key, len(found) + 1)
            self.facts[family] = {number: key for key, number in found.items()}
            self._numbers[family] = own

    def tallies(self, family: str, sets: _Sets) -> tuple[Tally, ...]:
        """The sets in terms of the family; units without any of its combinations drop out."""
        numbers = self._numbers[family]
        counts: dict[tuple[int, ...], int] = {}
        weights: dict[tuple[int, ...], float] = {}
        for profiles, amount in sets.items():
            key = tuple(sorted({numbers[profile] for profile in profiles if profile in numbers}))
            if key:
                counts[key] = counts.get(key, 0) + amount.count
                weights[key] = weights.get(key, 0.0) + amount.weight
        return tuple(Tally(key, count, weights[key]) for key, count in sorted(counts.items()))


def _sets(connection: Connection, scan_id: int, unit: str) -> _Sets:
    """Every set of profiles that units of a kind have, with the units that have it."""
    if unit == "endpoint":
        return {(row.profile,): Amount(row.units) for row in connection.execute(endpoints_alike())}
    alike, differing = (
        (domains_alike(), domains_differing(scan_id))
        if unit == "domain"
        else (units_alike(unit), units_differing(unit))
    )
    found: dict[tuple[int, ...], Amount] = {
        (row.low,): Amount(int(row.units), row.weight) for row in connection.execute(alike)
    }
    for _, members in groupby(connection.execute(differing), attrgetter("unit")):
        rows = list(members)
        key = tuple(sorted({row.profile for row in rows}))
        count, weight = (rows[0].units, rows[0].weight) if unit == "domain" else (1, 0.0)
        before = found.get(key)
        found[key] = Amount(before.count + count, before.weight + weight) if before else Amount(count, weight)
    return found


def _pairs(connection: Connection, statement: Select[*tuple[object, ...]]) -> Mapping[str, int]:
    return MappingProxyType({row.name: row.units for row in connection.execute(statement)})


# -------------------------------------------------------------------------------------------------- SELECTs


def endpoints_alike() -> Select[*tuple[object, ...]]:
    """Profile -> endpoints."""
    profile = MEMBER.c.profile
    return select(profile, func.count().label("units")).where(MEMBER.c.address.is_not(None)).group_by(profile)


def units_alike(unit: str) -> Select[*tuple[object, ...]]:
    """Profile -> certificates, addresses, MX hosts or operators all of whose members have it."""
    table = UNITS[unit]
    amounts = (func.count().label("units"), literal(0.0).label("weight"))
    return select(table.c.low, *amounts).where(table.c.low == table.c.high).group_by(table.c.low)


def units_differing(unit: str) -> Select[*tuple[object, ...]]:
    """The other units with the profile of each member, in the order of units."""
    table = UNITS[unit]
    return (
        select(table.c.unit, MEMBER.c.profile)
        .join(MEMBER, MEMBER.c[unit] == table.c.unit)
        .where(table.c.low != table.c.high)
        .distinct()
        .order_by(table.c.unit)
    )


def domains_alike() -> Select[*tuple[object, ...]]:
    """Profile -> domains all of whose endpoints have it, and their weight."""
    amounts = (func.sum(DOMAINS.c.units).label("units"), func.sum(DOMAINS.c.weight).label("weight"))
    return select(DOMAINS.c.low, *amounts).where(DOMAINS.c.low == DOMAINS.c.high).group_by(DOMAINS.c.low)


def domains_differing(scan_id: int) -> Select[*tuple[object, ...]]:
    """The other MX sets with their domains and the profile of each member, in the order of sets."""
    return (
        select(
            DOMAINS.c.unit,
            DOMAINS.c.units,
            DOMAINS.c.weight,
            func.coalesce(MEMBER.c.profile, NO_ADDRESS).label("profile"),
        )
        .join(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == DOMAINS.c.unit))
        .outerjoin(MEMBER, MEMBER.c.mx_host == mx_set_host.c.mx_host)
        .where(DOMAINS.c.low != DOMAINS.c.high)
        .order_by(DOMAINS.c.unit)
    )


def routing_amounts(scan_id: int) -> Select[*tuple[object, ...]]:
    """(routing, has an MX set) -> domains, weight."""
    has_set = case((domain.c.mx_set.is_(None), 0), else_=1)
    return (
        select(
            domain.c.routing,
            has_set.label("has_set"),
            func.count().label("domains"),
            func.sum(domain.c.weight).label("weight"),
        )
        .where(domain.c.scan_id == scan_id)
        .group_by(domain.c.routing, has_set)
    )


def any_weight(scan_id: int) -> Select[*tuple[object, ...]]:
    """One row when any domain of the scan has a weight."""
    return select(literal(1)).where(domain.c.scan_id == scan_id, domain.c.weight.is_not(None)).limit(1)


def names_per_address() -> Select[*tuple[object, ...]]:
    """Measured addresses: one name, or several with the same certificate, or with different ones."""
    per_address = (
        select(
            func.count(distinct(MEMBER.c.mx_host)).label("names"),
            func.count(distinct(MEMBER.c.certificate)).label("certificates"),
        )
        .where(MEMBER.c.certificate.is_not(None))
        .group_by(MEMBER.c.address)
        .subquery()
    )
    kind = case(
        (per_address.c.names == 1, ONE_NAME),
        (per_address.c.certificates == 1, SAME_CERTIFICATE),
        else_=DIFFERENT_CERTIFICATES,
    )
    return select(kind.label("name"), func.count().label("units")).group_by(kind)


def private_spread(scan_id: int) -> Select[*tuple[object, ...]]:
    """Private issuers by the number of operators that present their certificates.

    A self-signed certificate's issuer is its own key; a private CA is told by its name.
    """
    own = classification.c.hierarchy == Hierarchy.SELF_SIGNED
    per_issuer = (
        select(func.count(distinct(MEMBER.c.operator)).label("operators"))
        .join(
            classification,
            and_(classification.c.scan_id == scan_id, classification.c.sha256 == MEMBER.c.certificate),
        )
        .join(certificate, certificate.c.sha256 == MEMBER.c.certificate)
        .where(or_(own, classification.c.hierarchy == Hierarchy.PRIVATE))
        .group_by(own, case((own, certificate.c.spki_sha256), else_=certificate.c.issuer))
        .subquery()
    )
    band = _bucket(per_issuer.c.operators, SPREADS, SPREAD_MORE)
    return select(band.label("name"), func.count().label("units")).group_by(band)


# ---------------------------------------------------------------------------------------------------- pieces


def _bucket(value: ColumnElement[int], ranges: Sequence[tuple[int, str]], rest: str) -> ColumnElement[str]:
    return case(*((value <= last, name) for last, name in ranges), else_=rest)
