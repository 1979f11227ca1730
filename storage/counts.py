"""Counts one scan for the reports: each aggregate one named SELECT, the same on SQLite and PostgreSQL.

    alike      units whose members all have one profile: profile -> how many
    differing  the other units with the profiles of their members
    names_per_address  addresses by what their names present
    private_spread     private issuers by number of operators
    of domains: in `storage.domain_sets`; sighting_weights, client_need: in `storage.profiles`, `storage.sightings`

Each role is counted by itself: servers by endpoints and sightings, clients by sightings.
Both kinds of units become tallies: which set of combinations of a family of facts -> how many units. That is a
short list even for a million domains, and every figure is a projection of one that `reports.figures` makes without
SQL. Domains with the same MX records are counted once a set, never one by one. `storage.profiles` prepares the
tables that this reads.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, and_, case, distinct, func, literal, select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from scanner.policy_records import Dane
from scanner.records import Hierarchy, Role, Status
from storage import domain_sets, sightings
from storage.profiles import FACTS, Profile, fill_domains, sighting_weights, tables
from storage.schema import certificate, classification, domain
from storage.temporary import MEMBER, NO_ADDRESS, NOT_ENROLLED, PRIVATE, UNITS

DANE, MTA_STS = "dane", "mta_sts"
REACH = "reach"
"""The family of facts that every endpoint has; the others are of measured endpoints only."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        REACH: ("status", "reason", "stage", "failure"),
        "use": ("eku", "hierarchy", "client_auth", "operators"),
        "trust": ("programs", "operators"),
        "issuer": ("ca_owner", "eku"),
        "form": ("key_type", "key_bits", "validity"),
        "server": ("software", "tls_version", "eku"),
        "policy": ("exposure", "programs", "ca_owner", "operators"),
        "cohort": ("issued_since", "expires_since", "eku"),
        "asked": ("client_ca_names",),
        "again": ("second_certificate",),
        DANE: ("dane", "eku", "hierarchy"),
        MTA_STS: ("mta_sts", "eku", "hierarchy"),  # of domains only
    }
)
"""Facts that are counted together. A family has few combinations; all facts together could have too many."""

Facts = tuple[str, ...]
"""The facts of one combination, in the order of the family."""

Numbered = Mapping[int, Facts]
"""The number of a combination -> its facts, in the order of the family."""

SIGHTING = "sighting"
"""The unit that weighs what was counted elsewhere: sessions, messages."""

_COUNTED = (Status.MEASURED.value, sightings.SIGHTED, sightings.HEARD)

SPREADS = ((0, "unknown"), (1, "1"), (9, "2-9"), (99, "10-99"))
SPREAD_MORE = "100 and more"
ONE_NAME, SAME_CERTIFICATE, DIFFERENT_CERTIFICATES = "one-name", "same-certificate", "different-certificates"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many units have exactly this set of numbers; `weight` is the sum of theirs (domains only)."""

    numbers: tuple[int, ...]
    count: float
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
    each of `certificate, endpoint, address, mx_host, operator, domain, sighting` and each family, the units by the
    set of their numbers; units without any are missing. `domain` has the domains with an MX set only; all of them
    are in `routing`, which counts by (routing or None while unresolved, has an MX set). `weighted` says whether
    anything has a weight: domains, or else sightings (`weigh`). `names_per_address` and `private_spread` count
    measured addresses and private issuers. `client_need` counts the certificates of both roles by
    (EKU class, seen as a client, required).
    """

    facts: Mapping[str, Numbered]
    tallies: Mapping[tuple[str, str], tuple[Tally, ...]]
    routing: Mapping[tuple[str | None, bool], Amount]
    weighted: bool
    names_per_address: Mapping[str, float]
    private_spread: Mapping[str, float]
    weigh: str
    client_need: Mapping[tuple[str, bool, bool | None], int]


def read(connection: Connection, scan_id: int, role: Role = Role.SERVER, *, clients: int | None = None) -> Counts:
    """Count the scan in one role; everything is empty for a scan that does not exist.

    `clients` is the scan that has the client side of `client_need`, by default this one.
    """
    weigh = _first(connection, any_weight(scan_id)) if role is Role.SERVER else False
    sighted = _first(connection, sightings.any_of(scan_id, role))
    with tables(connection, scan_id, role) as profiles, ThreadPoolExecutor(1) as aside:
        # Units become tallies beside the SELECTs that follow, during which the interpreter is free.
        families = Families(profiles)
        made = [
            aside.submit(_of_unit, families, unit, _sets(connection, unit))
            for unit in (*UNITS, "endpoint", SIGHTING)
        ]
        fill_domains(connection, scan_id)
        made.append(aside.submit(_of_domains, families, _domains_by_standing(connection, scan_id)))
        return Counts(
            routing=read_routing(connection),
            weighted=weigh or sighted,
            weigh="domain" if weigh or not sighted else SIGHTING,
            names_per_address=_pairs(connection, names_per_address()),
            private_spread=_pairs(connection, private_spread(scan_id)),
            client_need=_client_need(connection, scan_id if clients is None else clients, role),
            tallies=MappingProxyType({key: tallies for part in made for key, tallies in part.result().items()}),
            facts=families.facts,
        )


def read_clients(connection: Connection, scan_id: int) -> Counts | None:
    """Role client of a scan; None where no client was sighted, as in every scan of MX hosts."""
    sighted = _first(connection, sightings.any_of(scan_id, Role.CLIENT))
    return read(connection, scan_id, Role.CLIENT) if sighted else None


def _first(connection: Connection, statement: Select[*tuple[Any, ...]]) -> bool:
    return connection.execute(statement).first() is not None


def _client_need(connection: Connection, clients: int, role: Role) -> Mapping[tuple[str, bool, bool | None], int]:
    """Counted with the servers, whose certificates are in the temporary tables then."""
    if role is not Role.SERVER:
        return MappingProxyType({})
    found = connection.execute(sightings.client_need(presented_by_servers(), clients))
    return MappingProxyType(
        {(eku, bool(seen), None if said is None else bool(said)): count for eku, seen, said, count in found}
    )


def read_routing(connection: Connection) -> Mapping[tuple[str | None, bool], Amount]:
    """Domains by (routing, has an MX set), while the temporary tables are there."""
    return MappingProxyType(
        {
            (row.routing, bool(row.has_set)): Amount(int(row.domains), row.weight)
            for row in connection.execute(domain_sets.routing_amounts())
        }
    )


@dataclass(frozen=True, slots=True)
class _Sets:
    """All units of a kind: those with one profile, then those with several; (profiles, units, weight) each."""

    alike: Sequence[tuple[int, int, float]]
    differing: Sequence[tuple[frozenset[int], int, float]]


class Families:
    """The combinations of each family, numbered from 1, and which profile has which."""

    def __init__(self, profiles: Mapping[int, Profile]) -> None:
        self.facts: dict[str, dict[int, tuple[str, ...]]] = {}
        self._numbers: dict[str, dict[int, int]] = {}
        for family, names in FAMILIES.items():
            if not set(names) <= set(FACTS):
                self.facts[family], self._numbers[family] = {}, {}
                continue
            places = [FACTS.index(name) for name in names]
            found: dict[tuple[str, ...], int] = {}
            own = {NO_ADDRESS: NO_ADDRESS, NOT_ENROLLED: NOT_ENROLLED} if family == REACH else {}
            for number, profile in profiles.items():
                if family == REACH or profile[0] in _COUNTED:
                    key = tuple([profile[at] for at in places])
                    own[number] = found.setdefault(key, len(found) + 1)
            self.facts[family] = {number: key for key, number in found.items()}
            self._numbers[family] = own

    def numbers(self, family: str, profiles: Iterable[int]) -> tuple[int, ...]:
        """The combinations of the family that these profiles have, sorted; none where it does not apply."""
        own = {self._numbers[family].get(profile) for profile in profiles}
        return tuple(sorted(number for number in own if number is not None))

    def tallies(self, family: str, sets: _Sets) -> tuple[Tally, ...]:
        """The sets in terms of the family; units without any of its combinations drop out."""
        numbers = self._numbers[family]
        if not numbers:
            return ()
        one: dict[int | None, tuple[int, float]] = {}
        for profile, units, weight in sets.alike:
            number = numbers.get(profile)
            count, sum_of_weights = one.get(number, _NOTHING)
            one[number] = (count + units, sum_of_weights + weight)
        several: dict[frozenset[int | None], tuple[int, float]] = {
            frozenset({number}): amount for number, amount in one.items()
        }
        for profiles, units, weight in sets.differing:
            key = frozenset(map(numbers.get, profiles))
            count, sum_of_weights = several.get(key, _NOTHING)
            several[key] = (count + units, sum_of_weights + weight)
        found: dict[tuple[int, ...], tuple[int, float]] = {}
        for some, (units, weight) in several.items():
            own = tuple(sorted(number for number in some if number is not None))
            count, sum_of_weights = found.get(own, _NOTHING)
            found[own] = (count + units, sum_of_weights + weight)
        return tuple(Tally(own, *amount) for own, amount in sorted(found.items()) if own)

    def restated(
        self, family: str, of: str, told: Sequence[Tally], change: Callable[[Facts], Facts]
    ) -> list[Tally]:
        """Tallies of the family `of` as ones of `family`, whose facts are those after a change."""
        changed = self.restate(family, of, [tally.numbers for tally in told], change)
        return [Tally(numbers, tally.count, tally.weight) for numbers, tally in zip(changed, told, strict=True)]

    def restate(
        self, family: str, of: str, numbers: Iterable[tuple[int, ...]], change: Callable[[Facts], Facts]
    ) -> list[tuple[int, ...]]:
        """Sets of numbers of the family `of` as sets of numbers of `family`, whose facts are changed ones."""
        facts = self.facts.setdefault(family, {})
        known = {key: number for number, key in facts.items()}
        found = []
        for some in numbers:
            keys = {change(self.facts[of][number]) for number in some}
            for key in sorted(keys - set(known)):
                known[key] = len(known) + 1
                facts[known[key]] = key
            found.append(tuple(sorted(known[key] for key in keys)))
        return found


_Tallies = dict[tuple[str, str], tuple[Tally, ...]]
"""(unit, family) -> tallies."""


def _of_unit(families: Families, unit: str, sets: _Sets) -> _Tallies:
    return {(unit, family): families.tallies(family, sets) for family in FAMILIES}


def _of_domains(families: Families, standings: Mapping[str, _Sets]) -> _Tallies:
    """Domains; what their own DNS says adds to what their hosts present: without a signed MX there is no DANE."""
    everything = _together(standings.values())
    found = {family: families.tallies(family, everything) for family in FAMILIES if family != DANE}
    dane: list[Tally] = []
    policies: list[Tally] = []
    for standing, sets in sorted(standings.items()):
        told = families.tallies(DANE, sets)
        with_dane, with_sts = standing_changes(standing)
        dane += families.restated(DANE, DANE, told, with_dane)
        policies += families.restated(MTA_STS, DANE, told, with_sts)
    found |= {DANE: tuple(dane), MTA_STS: tuple(policies)}
    return {("domain", family): tallies for family, tallies in found.items()}


def as_it_is(facts: Facts) -> Facts:
    """The facts of a domain whose MX records are signed."""
    return facts


def standing_changes(standing: str) -> tuple[Callable[[Facts], Facts], Callable[[Facts], Facts]]:
    """How facts of DANE change for domains of a standing: those of DANE itself, and into those of MTA-STS."""
    signed, _, sts = standing.partition(" ")
    return as_it_is if signed == domain_sets.SIGNED else without_dane, lambda facts: (sts, *facts[1:])


def without_dane(facts: Facts) -> Facts:
    """The facts of a domain whose MX records are not."""
    return (Dane.INSECURE.value, *facts[1:])


def _domains_by_standing(connection: Connection, scan_id: int) -> Mapping[str, _Sets]:
    """Standing -> all domains that have it, by their profiles."""
    alike: dict[str, list[tuple[int, int, float]]] = {}
    differing: dict[str, dict[frozenset[int], tuple[int, float]]] = {}
    for standing, profile, units, weight in connection.execute(domain_sets.alike()):
        alike.setdefault(standing, []).append((profile, int(units), weight))
    rows = connection.execute(domain_sets.differing(scan_id), execution_options={"yield_per": _AT_ONCE})
    for standing, units, weight, members in rows:
        several = differing.setdefault(standing, {})
        key = _numbers(members)
        count, sum_of_weights = several.get(key, _NOTHING)
        several[key] = (count + int(units), sum_of_weights + weight)
    return {
        name: _Sets(alike.get(name, ()), [(key, *amount) for key, amount in differing.get(name, {}).items()])
        for name in {**alike, **differing}
    }


def _together(parts: Iterable[_Sets]) -> _Sets:
    """The units of all parts."""
    listed = list(parts)
    return _Sets([one for part in listed for one in part.alike], [one for part in listed for one in part.differing])


_NOTHING = (0, 0.0)


def _sets(connection: Connection, unit: str) -> _Sets:
    """Every unit of a kind but domains by its profiles."""
    if unit == "endpoint":
        return _Sets(_alike(connection, endpoints_alike()), ())
    if unit == SIGHTING:
        return _Sets(_alike(connection, sighting_weights()), ())
    rows = connection.execute(units_differing(unit), execution_options={"yield_per": _AT_ONCE})
    several = Counter(_numbers(members) for (members,) in rows)
    return _Sets(_alike(connection, units_alike(unit)), [(key, units, 0.0) for key, units in several.items()])


def _numbers(members: str) -> frozenset[int]:
    """What `domain_sets.one_text` made one of."""
    return frozenset(map(int, members.split(",")))


def _alike(connection: Connection, statement: Select[*tuple[Any, ...]]) -> list[tuple[int, int, float]]:
    return [(profile, int(units), weight) for profile, units, weight in connection.execute(statement).all()]


_AT_ONCE = 10_000
"""Rows that are fetched together."""


def _pairs(connection: Connection, statement: Select[*tuple[Any, ...]]) -> Mapping[str, int]:
    return MappingProxyType({row.name: row.units for row in connection.execute(statement)})


# -------------------------------------------------------------------------------------------------- SELECTs


def endpoints_alike() -> Select[*tuple[Any, ...]]:
    """Profile -> endpoints."""
    profile = MEMBER.c.profile
    return select(profile, func.count(), literal(0.0)).where(MEMBER.c.address.is_not(None)).group_by(profile)


def units_alike(unit: str) -> Select[*tuple[Any, ...]]:
    """Profile -> certificates, addresses, MX hosts or operators all of whose members have it."""
    table = UNITS[unit]
    return select(table.c.low, func.count(), literal(0.0)).where(table.c.low == table.c.high).group_by(table.c.low)


def units_differing(unit: str) -> Select[*tuple[Any, ...]]:
    """The profiles of the members of each of the other units, each once: an operator may have millions."""
    table = UNITS[unit]
    pairs = (
        select(table.c.unit, MEMBER.c.profile)
        .join(MEMBER, MEMBER.c[unit] == table.c.unit)
        .where(table.c.low != table.c.high)
        .distinct()
        .subquery()
    )
    return select(domain_sets.one_text(pairs.c.profile)).group_by(pairs.c.unit)


def any_weight(scan_id: int) -> Select[*tuple[Any, ...]]:
    """One row when any domain of the scan has a weight."""
    return select(literal(1)).where(domain.c.scan_id == scan_id, domain.c.weight.is_not(None)).limit(1)


def presented_by_servers() -> Select[*tuple[Any, ...]]:
    """The distinct certificates that servers present."""
    return select(UNITS["certificate"].c.unit)


def names_per_address() -> Select[*tuple[Any, ...]]:
    """Measured addresses: one name, or several with the same certificate, or with different ones."""
    per_address = (
        select(
            func.count(distinct(MEMBER.c.mx_host)).label("names"),
            func.count(distinct(MEMBER.c.certificate)).label("certificates"),
        )
        .where(MEMBER.c.certificate.is_not(None), MEMBER.c.address.is_not(None))
        .group_by(MEMBER.c.address)
        .subquery()
    )
    kind = case(
        (per_address.c.names == 1, ONE_NAME),
        (per_address.c.certificates == 1, SAME_CERTIFICATE),
        else_=DIFFERENT_CERTIFICATES,
    )
    return select(kind.label("name"), func.count().label("units")).group_by(kind)


def private_spread(scan_id: int) -> Select[*tuple[Any, ...]]:
    """Private issuers, told apart by their keys, by the number of operators that present their certificates.

    Where the classification has no issuer key yet, a self-signed certificate's own key stands for it, or the
    issuer's name.
    """
    presented = (
        select(MEMBER.c.certificate, MEMBER.c.operator)
        .join(PRIVATE, PRIVATE.c.profile == MEMBER.c.profile)
        .distinct()
        .subquery()
    )
    unkeyed = and_(classification.c.issuer_key.is_(None), certificate.c.sha256 == presented.c.certificate)
    own = classification.c.hierarchy == Hierarchy.SELF_SIGNED
    named = case((own, certificate.c.spki_sha256), else_=certificate.c.issuer)
    # Outer joins: so SQLite starts from what is presented, and looks up only that.
    per_issuer = (
        select(func.count(distinct(presented.c.operator)).label("operators"))
        .select_from(presented)
        .outerjoin(
            classification,
            and_(classification.c.scan_id == scan_id, classification.c.sha256 == presented.c.certificate),
        )
        .outerjoin(certificate, unkeyed)
        .group_by(func.coalesce(classification.c.issuer_key, named))
        .subquery()
    )
    band = _bucket(per_issuer.c.operators, SPREADS, SPREAD_MORE)
    return select(band.label("name"), func.count().label("units")).group_by(band)


# ---------------------------------------------------------------------------------------------------- pieces


def _bucket(value: ColumnElement[int], ranges: Sequence[tuple[int, str]], rest: str) -> ColumnElement[str]:
    return case(*((value <= last, name) for last, name in ranges), else_=rest)
