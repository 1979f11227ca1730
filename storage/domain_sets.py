"""Domains by what their MX hosts present: never one by one, but by the MX set that they share.

    standing_sizes, set_sizes  the one pass over all domains, and what follows from it
    operator_sizes             the largest operators
    domain_ends                which sets have hosts that are all alike
    alike, differing           those sets with the one profile; the others with all
    routing_amounts            domains by routing

A standing is what a domain's own DNS says: whether its answer to MX is authenticated and, after a space, its
MTA-STS.
"""

from typing import Any

from sqlalchemy import String, and_, case, cast, func, literal, select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from scanner.policy_records import MtaSts
from storage.facts import UNCLASSIFIED
from storage.schema import domain, mta_sts, mx_host, mx_set_host, sts_verdict
from storage.temporary import DOMAINS, MEMBER, NO_ADDRESS, SET, STANDING, UNITS

SIGNED, UNSIGNED = "signed", "unsigned"

_NONE = literal("")


def standing_sizes(scan_id: int) -> Select[*tuple[Any, ...]]:
    """Each MX set, routing and standing -> domains, weight."""
    judged = case((mta_sts.c.domain.is_(None), MtaSts.NONE.value), else_=UNCLASSIFIED)
    sts: ColumnElement[str] = func.coalesce(sts_verdict.c.mta_sts, judged)
    key = (
        func.coalesce(domain.c.mx_set, "").label("mx_set"),
        func.coalesce(domain.c.routing, "").label("routing"),
        (case((domain.c.authenticated, SIGNED), else_=UNSIGNED) + literal(" ") + sts).label("standing"),
    )
    return (
        select(*key, func.count(), func.coalesce(func.sum(domain.c.weight), 0.0))
        .outerjoin(mta_sts, and_(mta_sts.c.scan_id == scan_id, mta_sts.c.domain == domain.c.domain))
        .outerjoin(sts_verdict, and_(sts_verdict.c.scan_id == scan_id, sts_verdict.c.domain == domain.c.domain))
        .where(domain.c.scan_id == scan_id)
        .group_by(*key)
    )


def set_sizes() -> Select[*tuple[Any, ...]]:
    """Each MX set -> domains, weight."""
    return (
        select(STANDING.c.mx_set, func.sum(STANDING.c.domains), func.sum(STANDING.c.weight))
        .where(STANDING.c.mx_set != _NONE)
        .group_by(STANDING.c.mx_set)
    )


def routing_amounts() -> Select[*tuple[Any, ...]]:
    """(routing, has an MX set) -> domains, weight."""
    has_set = case((STANDING.c.mx_set == _NONE, 0), else_=1)
    return select(
        func.nullif(STANDING.c.routing, _NONE).label("routing"),
        has_set.label("has_set"),
        func.sum(STANDING.c.domains).label("domains"),
        func.sum(STANDING.c.weight).label("weight"),
    ).group_by(STANDING.c.routing, has_set)


def operator_sizes(scan_id: int, most: int) -> Select[*tuple[Any, ...]]:
    """The `most` largest operators by the domains that name one of their MX hosts, equal ones by name."""
    # Outer joins although every set has hosts: so SQLite goes through both tables in the order of their keys.
    pairs = (
        select(SET.c.mx_set, SET.c.domains, mx_host.c.operator)
        .outerjoin(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == SET.c.mx_set))
        .outerjoin(mx_host, and_(mx_host.c.scan_id == scan_id, mx_host.c.mx_host == mx_set_host.c.mx_host))
        .distinct()
        .subquery()
    )
    domains = func.sum(pairs.c.domains).label("domains")
    return (
        select(pairs.c.operator, domains)
        .where(pairs.c.operator.is_not(None))
        .group_by(pairs.c.operator)
        .order_by(domains.desc(), pairs.c.operator)
        .limit(most)
    )


def domain_ends(scan_id: int) -> Select[*tuple[Any, ...]]:
    """Each MX set -> domains, weight, lowest and highest number of its hosts."""
    host = UNITS["mx_host"]
    return (
        select(
            SET.c.mx_set,
            func.max(SET.c.domains),
            func.max(SET.c.weight),
            func.min(func.coalesce(host.c.low, NO_ADDRESS)),
            func.max(func.coalesce(host.c.high, NO_ADDRESS)),
        )
        .outerjoin(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == SET.c.mx_set))
        .outerjoin(host, host.c.unit == mx_set_host.c.mx_host)
        .group_by(SET.c.mx_set)
    )


def alike() -> Select[*tuple[Any, ...]]:
    """(standing, profile) -> domains all of whose endpoints have it, and their weight."""
    return (
        select(STANDING.c.standing, DOMAINS.c.low, func.sum(STANDING.c.domains), func.sum(STANDING.c.weight))
        .join(DOMAINS, DOMAINS.c.unit == STANDING.c.mx_set)
        .where(DOMAINS.c.low == DOMAINS.c.high)
        .group_by(STANDING.c.standing, DOMAINS.c.low)
    )


def differing(scan_id: int) -> Select[*tuple[Any, ...]]:
    """The other MX sets by standing: domains, weight, and the profiles of their members, as `counts` reads them."""
    # Outer joins, as in `operator_sizes`.
    profile = func.coalesce(MEMBER.c.profile, NO_ADDRESS)
    key = (STANDING.c.mx_set, STANDING.c.routing, STANDING.c.standing)
    return (
        select(STANDING.c.standing, func.max(STANDING.c.domains), func.max(STANDING.c.weight), one_text(profile))
        .join(DOMAINS, DOMAINS.c.unit == STANDING.c.mx_set)
        .outerjoin(mx_set_host, and_(mx_set_host.c.scan_id == scan_id, mx_set_host.c.mx_set == STANDING.c.mx_set))
        .outerjoin(MEMBER, MEMBER.c.mx_host == mx_set_host.c.mx_host)
        .where(DOMAINS.c.low != DOMAINS.c.high)
        .group_by(*key)
    )


def one_text(number: ColumnElement[int]) -> ColumnElement[str]:
    """The numbers of a group as one text, which is fetched in less time than a row for each."""
    return func.aggregate_strings(cast(number, String), ",")
