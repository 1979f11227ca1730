"""Counts one scan for the reports: each aggregate one named SELECT, the same on SQLite and PostgreSQL.

    *_tallies            unit -> its set of profiles (`storage.profiles`) -> how many units have exactly that set
    routing_amounts      domains by routing
    names_per_address    addresses by what their names present
    private_spread       private issuers by number of operators

A census of a million domains has few distinct sets of profiles, so a tally is a short list, and every figure is a
projection of it that `reports.figures` makes without SQL. Domains with the same MX records are counted once a set,
never one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, String, case, cast, distinct, func, literal, or_, select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause, Select, Subquery

from scanner.records import Hierarchy
from storage.profiles import ENDPOINT, FACTS, HOST, NO_ADDRESS, SET, tables
from storage.schema import certificate, domain, mx_set_host

SPREADS = ((1, "1"), (9, "2-9"), (99, "10-99"))
SPREAD_MORE = "100 or more"
ONE_NAME, SAME_CERTIFICATE, DIFFERENT_CERTIFICATES = "one-name", "same-certificate", "different-certificates"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many units have exactly this set of profiles; `weight` is the sum of theirs (domains only)."""

    profiles: tuple[int, ...]
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

    `profiles` maps a profile to its facts in the order of `FACTS`. `units` has a list of tallies for
    `certificate, endpoint, address, mx_host, operator, domain`; the last holds the domains with an MX set only;
    the others are in `routing`, which counts every domain by (routing or None while unresolved, has an MX set).
    `weighted` says whether any domain came with a weight. `names_per_address` and `private_spread` count
    measured addresses and private issuer keys.
    """

    profiles: Mapping[int, tuple[str, ...]]
    units: Mapping[str, tuple[Tally, ...]]
    routing: Mapping[tuple[str | None, bool], Amount]
    weighted: bool
    names_per_address: Mapping[str, int]
    private_spread: Mapping[str, int]


def read(connection: Connection, scan_id: int) -> Counts:
    """Count the scan; everything is empty for a scan that does not exist."""
    with tables(connection, scan_id):
        units = {name: _tallies(connection, statement()) for name, statement in TALLIES.items()}
        units["domain"] = _tallies(connection, domain_tallies(scan_id))
        profiles = {
            row.profile: tuple(str(getattr(row, name)) for name in FACTS)
            for row in connection.execute(distinct_profiles())
        }
        routing = {
            (row.routing, bool(row.has_set)): Amount(row.domains, row.weight or 0.0)
            for row in connection.execute(routing_amounts(scan_id))
        }
        weighted = connection.execute(any_weight(scan_id)).first() is not None
        return Counts(
            profiles=MappingProxyType(profiles),
            units=MappingProxyType(units),
            routing=MappingProxyType(routing),
            weighted=weighted,
            names_per_address=_pairs(connection, names_per_address()),
            private_spread=_pairs(connection, private_spread()),
        )


def _tallies(connection: Connection, statement: Select[*tuple[object, ...]]) -> tuple[Tally, ...]:
    found: dict[tuple[int, ...], tuple[int, float]] = {}
    for row in connection.execute(statement):
        # Neither database promises the order inside the aggregate, so one set may come in several spellings.
        profiles = tuple(sorted(int(number) for number in (row.signature or str(NO_ADDRESS)).split(",")))
        count, weight = found.get(profiles, (0, 0.0))
        found[profiles] = (count + int(row.units), weight + float(row.weight or 0.0))
    return tuple(Tally(profiles, count, weight) for profiles, (count, weight) in sorted(found.items()))


def _pairs(connection: Connection, statement: Select[*tuple[object, ...]]) -> Mapping[str, int]:
    return MappingProxyType({row.name: row.units for row in connection.execute(statement)})


# -------------------------------------------------------------------------------------------------- SELECTs


def distinct_profiles() -> Select[*tuple[object, ...]]:
    """Profile -> facts."""
    return select(ENDPOINT.c.profile, *(ENDPOINT.c[name] for name in FACTS)).distinct()


def endpoint_tallies() -> Select[*tuple[object, ...]]:
    """An endpoint has one profile."""
    profile = ENDPOINT.c.profile
    return select(
        cast(profile, String).label("signature"), func.count().label("units"), literal(0.0).label("weight")
    ).group_by(profile)


def certificate_tallies() -> Select[*tuple[object, ...]]:
    """End entity certificates by the measured endpoints that presented them."""
    return _by_unit(ENDPOINT.c.certificate, ENDPOINT.c.profile, ENDPOINT.c.certificate.is_not(None))


def address_tallies() -> Select[*tuple[object, ...]]:
    """Addresses of endpoints."""
    return _by_unit(ENDPOINT.c.address, ENDPOINT.c.profile)


def mx_host_tallies() -> Select[*tuple[object, ...]]:
    """MX hosts, also those without an address."""
    return _by_unit(HOST.c.mx_host, HOST.c.profile)


def operator_tallies() -> Select[*tuple[object, ...]]:
    """Operators of MX hosts."""
    return _by_unit(HOST.c.operator, HOST.c.profile)


def domain_tallies(scan_id: int) -> Select[*tuple[object, ...]]:
    """Domains with an MX set, by the endpoints of all its hosts."""
    members = (
        select(mx_set_host.c.mx_set.label("unit"), func.coalesce(HOST.c.profile, NO_ADDRESS).label("profile"))
        .outerjoin(HOST, HOST.c.mx_host == mx_set_host.c.mx_host)
        .where(mx_set_host.c.scan_id == scan_id)
        .distinct()
        .subquery()
    )
    signed = _signatures(members)
    return (
        select(
            signed.c.signature,
            func.sum(SET.c.domains).label("units"),
            func.sum(SET.c.weight).label("weight"),
        )
        .select_from(SET)
        .outerjoin(signed, signed.c.unit == SET.c.mx_set)
        .group_by(signed.c.signature)
    )


TALLIES: Mapping[str, Callable[[], Select[*tuple[object, ...]]]] = MappingProxyType(
    {
        "certificate": certificate_tallies,
        "endpoint": endpoint_tallies,
        "address": address_tallies,
        "mx_host": mx_host_tallies,
        "operator": operator_tallies,
    }
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
            func.count(distinct(ENDPOINT.c.mx_host)).label("names"),
            func.count(distinct(ENDPOINT.c.certificate)).label("certificates"),
        )
        .where(ENDPOINT.c.certificate.is_not(None))
        .group_by(ENDPOINT.c.address)
        .subquery()
    )
    kind = case(
        (per_address.c.names == 1, ONE_NAME),
        (per_address.c.certificates == 1, SAME_CERTIFICATE),
        else_=DIFFERENT_CERTIFICATES,
    )
    return select(kind.label("name"), func.count().label("units")).group_by(kind)


def private_spread() -> Select[*tuple[object, ...]]:
    """Private issuers by the number of operators that present their certificates.

    A self-signed certificate's issuer is its own key; a private CA is told by its name.
    """
    own = ENDPOINT.c.hierarchy == Hierarchy.SELF_SIGNED
    issuer = case((own, certificate.c.spki_sha256), else_=certificate.c.issuer)
    per_issuer = (
        select(func.count(distinct(ENDPOINT.c.operator)).label("operators"))
        .join(certificate, certificate.c.sha256 == ENDPOINT.c.certificate)
        .where(or_(own, ENDPOINT.c.hierarchy == Hierarchy.PRIVATE))
        .group_by(own, issuer)
        .subquery()
    )
    band = _bucket(per_issuer.c.operators, SPREADS, SPREAD_MORE)
    return select(band.label("name"), func.count().label("units")).group_by(band)


# ---------------------------------------------------------------------------------------------------- pieces


def _by_unit(
    unit: ColumnElement[str], profile: ColumnElement[int], where: ColumnElement[bool] | None = None
) -> Select[*tuple[object, ...]]:
    members = select(unit.label("unit"), profile.label("profile")).distinct()
    if where is not None:
        members = members.where(where)
    signed = _signatures(members.subquery())
    return select(signed.c.signature, func.count().label("units"), literal(0.0).label("weight")).group_by(
        signed.c.signature
    )


def _signatures(members: FromClause) -> Subquery:
    """Unit -> its profiles as one text."""
    numbers = func.aggregate_strings(cast(members.c.profile, String), ",")
    return select(members.c.unit, numbers.label("signature")).group_by(members.c.unit).subquery()


def _bucket(value: ColumnElement[int], ranges: Sequence[tuple[int, str]], rest: str) -> ColumnElement[str]:
    return case(*((value <= last, name) for last, name in ranges), else_=rest)
