"""The sample of a scan in the tables: kept, read again, and counted.

Counting a sample is counting its units one by one, each with the clusters that its addresses belong to: what a unit
stands for depends on them. A unit with an address outside the sample is not in it, since nobody knows its row.
Units alike in clusters and facts are counted together. `reports.estimates` makes totals of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, cast, delete, func, insert, literal, null, select
from sqlalchemy.sql.selectable import Select

from scanner.ledger import Sample, SampledAddress, Stratum
from scanner.records import Reason, Status
from storage.counts import (
    DANE,
    DIFFERENT_CERTIFICATES,
    FAMILIES,
    MTA_STS,
    ONE_NAME,
    SAME_CERTIFICATE,
    Amount,
    Families,
    Numbered,
    any_weight,
    read_routing,
    standing_changes,
)
from storage.profiles import FACTS, Profile, fill_domains, tables
from storage.schema import mx_set_host, sample_address, sample_stratum
from storage.temporary import DOMAINS, MEMBER, STANDING

__all__ = ["Clusters", "Group", "SampleCounts", "Stratum", "read", "store_sample", "stored_sample"]
# Stratum too: the reports know this package, and of the scanner its records only.

Clusters = tuple[int, ...]
"""The clusters that a unit's addresses belong to, sorted; none for one without an address that could be drawn."""


@dataclass(frozen=True, slots=True)
class Group:
    """Units in the same clusters with the same set of combinations of a family; `weight` is the sum of theirs."""

    numbers: tuple[int, ...]
    clusters: Clusters
    count: int
    weight: float


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """What `storage.counts.Counts` has, for a sample: `groups` are units seen, not yet what they stand for.

    `stratum_of` has the stratum of each cluster. `names_per_address` is by (kind, clusters).
    """

    sample: Sample
    stratum_of: tuple[int, ...]
    facts: Mapping[str, Numbered]
    groups: Mapping[tuple[str, str], tuple[Group, ...]]
    routing: Mapping[tuple[str | None, bool], Amount]
    weighted: bool
    names_per_address: Mapping[tuple[str, Clusters], int]
    population: Mapping[str, Amount]


def store_sample(connection: Connection, scan_id: int, sample: Sample) -> None:
    """Keep a sample in place of any other; writing it again changes nothing."""
    for table in (sample_stratum, sample_address):
        connection.execute(delete(table).where(table.c.scan_id == scan_id))
    strata: list[dict[str, object]] = [
        {
            "scan_id": scan_id,
            "stratum": number,
            "clusters": stratum.clusters,
            "drawn": stratum.drawn,
            "addresses": stratum.addresses,
        }
        for number, stratum in enumerate(sample.strata)
    ]
    drawn: list[dict[str, object]] = [
        {
            "scan_id": scan_id,
            "address": address.address,
            "stratum": address.stratum,
            "cluster": address.cluster,
            "probability": address.probability,
        }
        for address in sample.addresses
    ]
    for table, rows in ((sample_stratum, strata), (sample_address, drawn)):
        if rows:
            connection.execute(insert(table), rows)


def stored_sample(connection: Connection, scan_id: int) -> Sample | None:
    """The sample of a scan, None where it has none."""
    layers = connection.execute(
        select(sample_stratum).where(sample_stratum.c.scan_id == scan_id).order_by(sample_stratum.c.stratum)
    ).all()
    if not layers:
        return None
    strata = tuple(Stratum(row.clusters, row.drawn, row.addresses) for row in layers)
    drawn = connection.execute(
        select(sample_address).where(sample_address.c.scan_id == scan_id).order_by(sample_address.c.address)
    )
    addresses = tuple(SampledAddress(row.address, row.stratum, row.cluster, row.probability) for row in drawn)
    return Sample(strata, addresses)


def read(connection: Connection, scan_id: int) -> SampleCounts | None:
    """Count the sample of a scan; None where it has none."""
    sample = stored_sample(connection, scan_id)
    if sample is None:
        return None
    stratum_of = {drawn.cluster: drawn.stratum for drawn in sample.addresses}
    clusters = {drawn.address: drawn.cluster for drawn in sample.addresses}
    with tables(connection, scan_id) as profiles:
        fill_domains(connection, scan_id)
        families = Families(profiles)
        outside = frozenset(number for number, facts in profiles.items() if _is_outside(facts))
        groups: dict[tuple[str, str], tuple[Group, ...]] = {}
        population: dict[str, Amount] = {}
        for unit in UNITS:
            rows = connection.execute(unit_members(scan_id, unit), execution_options={"yield_per": _AT_ONCE})
            seen, population[unit] = _seen(rows, clusters, outside)
            groups |= {(unit, family): _grouped(families, family, seen) for family in FAMILIES}
        groups |= _domains_by_standing(connection, scan_id, families, (clusters, outside))
        return SampleCounts(
            sample=sample,
            stratum_of=tuple(stratum_of[number] for number in sorted(stratum_of)),
            facts=families.facts,
            groups=MappingProxyType(groups),
            routing=read_routing(connection),
            weighted=connection.execute(any_weight(scan_id)).first() is not None,
            names_per_address=_names_per_address(connection, clusters),
            population=MappingProxyType(population),
        )


UNITS = ("certificate", "address", "mx_host", "operator", "endpoint", "domain")
_AT_ONCE = 10_000
_Seen = dict[tuple[frozenset[int], Clusters], tuple[int, float]]


def _is_outside(facts: Profile) -> bool:
    return facts[FACTS.index("status")] == Status.NOT_TESTED and facts[FACTS.index("reason")] == Reason.NOT_SAMPLED


def _seen(rows: Iterable[Any], clusters: Mapping[str, int], outside: frozenset[int]) -> tuple[_Seen, Amount]:
    """The units whose addresses are all in the sample, alike ones together; and how many there are in all."""
    seen: _Seen = {}
    everything, all_weight = 0, 0.0
    for _, members in groupby(rows, itemgetter(0)):
        listed = list(members)
        units, weight = listed[0][1], listed[0][2]
        everything, all_weight = everything + units, all_weight + weight
        profiles = frozenset(member[3] for member in listed)
        if profiles.isdisjoint(outside):
            own = tuple(sorted({clusters[member[4]] for member in listed if member[4] in clusters}))
            count, sum_of_weights = seen.get((profiles, own), (0, 0.0))
            seen[profiles, own] = (count + units, sum_of_weights + weight)
    return seen, Amount(everything, all_weight)


def _grouped(families: Families, family: str, seen: _Seen) -> tuple[Group, ...]:
    found: dict[tuple[tuple[int, ...], Clusters], tuple[int, float]] = {}
    for (profiles, clusters), (units, weight) in seen.items():
        numbers = families.numbers(family, profiles)
        if numbers:
            count, sum_of_weights = found.get((numbers, clusters), (0, 0.0))
            found[numbers, clusters] = (count + units, sum_of_weights + weight)
    return tuple(Group(*key, *amount) for key, amount in sorted(found.items()))


def _domains_by_standing(
    connection: Connection, scan_id: int, families: Families, sample: tuple[Mapping[str, int], frozenset[int]]
) -> dict[tuple[str, str], tuple[Group, ...]]:
    """Domains by what their own DNS adds to what their hosts present, as in `storage.counts`."""
    found: dict[tuple[str, str], tuple[Group, ...]] = {("domain", DANE): (), ("domain", MTA_STS): ()}
    standings = select(STANDING.c.standing).distinct().order_by(STANDING.c.standing)
    for standing in connection.execute(standings).scalars().all():
        rows = connection.execute(standing_members(scan_id, standing), execution_options={"yield_per": _AT_ONCE})
        groups = _grouped(families, DANE, _seen(rows, *sample)[0])
        for family, change in zip((DANE, MTA_STS), standing_changes(standing), strict=True):
            changed = families.restate(family, DANE, [group.numbers for group in groups], change)
            found["domain", family] += tuple(
                replace(group, numbers=numbers) for group, numbers in zip(groups, changed, strict=True)
            )
    return found


def _names_per_address(connection: Connection, clusters: Mapping[str, int]) -> Mapping[tuple[str, Clusters], int]:
    """Measured addresses of the sample by what their names present."""
    found: dict[tuple[str, Clusters], int] = {}
    rows = connection.execute(measured_names(), execution_options={"yield_per": _AT_ONCE})
    for address, members in groupby(rows, itemgetter(0)):
        listed = list(members)
        names, certificates = ({member[at] for member in listed} for at in (1, 2))
        several = SAME_CERTIFICATE if len(certificates) == 1 else DIFFERENT_CERTIFICATES
        key = (ONE_NAME if len(names) == 1 else several, (clusters[address],) if address in clusters else ())
        found[key] = found.get(key, 0) + 1
    return MappingProxyType(found)


# -------------------------------------------------------------------------------------------------- SELECTs


def unit_members(scan_id: int, unit: str) -> Select[*tuple[Any, ...]]:
    """(unit, how many such units, weight, profile, address) of every member, unit after unit."""
    if unit == "domain":
        return (
            select(DOMAINS.c.unit, DOMAINS.c.units, DOMAINS.c.weight, MEMBER.c.profile, MEMBER.c.address)
            .join(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == DOMAINS.c.unit))
            .join(MEMBER, MEMBER.c.mx_host == mx_set_host.c.mx_host)
            .order_by(DOMAINS.c.unit)
        )
    if unit == "endpoint":
        each = MEMBER.c.mx_host + literal(" ") + MEMBER.c.address
        return (
            select(each, literal(1), literal(0.0), MEMBER.c.profile, MEMBER.c.address)
            .where(MEMBER.c.address.is_not(None))
            .order_by(MEMBER.c.mx_host, MEMBER.c.address)
        )
    if unit == "certificate":
        # Whoever else presents it may be outside the sample: it is counted where it was seen.
        return (
            select(MEMBER.c.certificate, literal(1), literal(0.0), MEMBER.c.profile, null())
            .where(MEMBER.c.certificate.is_not(None))
            .order_by(MEMBER.c.certificate)
        )
    column = MEMBER.c[unit]
    return (
        select(column, literal(1), literal(0.0), MEMBER.c.profile, MEMBER.c.address)
        .where(column.is_not(None))
        .order_by(column)
    )


def standing_members(scan_id: int, standing: str) -> Select[*tuple[Any, ...]]:
    """What `unit_members` has of domains, of those with this standing."""
    sized = (
        select(
            STANDING.c.mx_set,
            cast(func.sum(STANDING.c.domains), BigInteger).label("domains"),  # PostgreSQL's sum is a decimal
            func.sum(STANDING.c.weight).label("weight"),
        )
        .where(STANDING.c.standing == standing)
        .group_by(STANDING.c.mx_set)
        .subquery()
    )
    return (
        select(sized.c.mx_set, sized.c.domains, sized.c.weight, MEMBER.c.profile, MEMBER.c.address)
        .join(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == sized.c.mx_set))
        .join(MEMBER, MEMBER.c.mx_host == mx_set_host.c.mx_host)
        .order_by(sized.c.mx_set)
    )


def measured_names() -> Select[*tuple[Any, ...]]:
    """(address, MX host, certificate) of every measured endpoint, address after address."""
    return (
        select(MEMBER.c.address, MEMBER.c.mx_host, MEMBER.c.certificate)
        .where(MEMBER.c.certificate.is_not(None))
        .order_by(MEMBER.c.address)
    )
