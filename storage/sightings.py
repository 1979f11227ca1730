"""Sightings as they are counted, in SQL, and what is forgotten of them when its time is over.

A sighting has a certificate that is stored (status `sighted`, or `heard` where the TLS session is known too), or is
not measured for a reason: no TLS, no certificate, or only the digest of one that nobody has.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    String,
    Table,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    select,
    union,
    update,
)
from sqlalchemy.sql.selectable import Select

from scanner.records import Role
from storage.facts import certificate_columns, joined
from storage.schema import certificate, classification, sighting

SIGHTED, HEARD, UNMEASURED = "sighted", "heard", "unmeasured"
"""Statuses of a sighting in the counts, beside those of an endpoint."""

NO_TLS, NO_CERTIFICATE, UNKNOWN_CERTIFICATE = "no-tls", "no-certificate", "unknown-certificate"
"""Why a sighting is not measured."""


def facts(scan_id: int, role: Role, band: Table, began: datetime | None) -> Select[*tuple[Any, ...]]:
    """Rows of `report_endpoint`: sightings with the same certificate, operator and TLS version are one row.

    Their weight is the sum of their counts. `band` has the largest operators with their rank.
    Validity is judged when the scan `began`.
    """
    alike = (sighting.c.sha256, sighting.c.operator, sighting.c.tls_version)
    seen = (
        select(*alike, func.sum(sighting.c.count).label("count"))
        .where(sighting.c.scan_id == scan_id, sighting.c.role == role.value)
        .group_by(*alike)
        .subquery()
    )
    known = certificate.c.sha256.is_not(None)
    status = case((known, case((seen.c.tls_version.is_(None), SIGHTED), else_=HEARD)), else_=UNMEASURED)
    reason = case(
        (known, ""),
        (seen.c.sha256.is_not(None), UNKNOWN_CERTIFICATE),
        (seen.c.tls_version.is_(None), NO_TLS),
        else_=NO_CERTIFICATE,
    )
    nothing = literal("")
    columns = (
        status,
        reason,
        *(nothing, nothing, nothing),  # stage, failure, client_auth
        seen.c.tls_version,
        nothing,  # software
        *certificate_columns(began),
        *(nothing, nothing),  # CA names of a request, second look
        cast(band.c.band, String),
        *(nothing, nothing),  # TLSA
    )
    return (
        select(null(), null(), seen.c.operator, case((known, seen.c.sha256)), joined(columns), seen.c.count)
        .select_from(seen)
        .outerjoin(certificate, certificate.c.sha256 == seen.c.sha256)
        .outerjoin(
            classification, and_(classification.c.scan_id == scan_id, classification.c.sha256 == seen.c.sha256)
        )
        .outerjoin(band, band.c.operator == seen.c.operator)
    )


def operator_sizes(scan_id: int, role: Role, most: int) -> Select[*tuple[Any, ...]]:
    """The operators that are seen most, equal ones by name."""
    size = func.sum(sighting.c.count)
    return (
        select(sighting.c.operator, size)
        .where(sighting.c.scan_id == scan_id, sighting.c.role == role.value, sighting.c.operator.is_not(None))
        .group_by(sighting.c.operator)
        .order_by(size.desc(), sighting.c.operator)
        .limit(most)
    )


def any_of(scan_id: int, role: Role) -> Select[*tuple[Any, ...]]:
    """One row when the scan has a sighting in this role."""
    return select(literal(1)).where(sighting.c.scan_id == scan_id, sighting.c.role == role.value).limit(1)


def client_need(served: Select[*tuple[Any, ...]], clients: int) -> Select[*tuple[Any, ...]]:
    """(EKU class, seen as a client, the highest of `required`) -> distinct certificates of either role.

    `served` selects the certificates that servers present; `clients` is the scan whose sightings say who presents
    one as a client. Certificates are the same when their SHA-256 is.
    """
    presented = (
        select(sighting.c.sha256, func.max(cast(sighting.c.required, Integer)).label("required"))
        .where(
            sighting.c.scan_id == clients,
            sighting.c.role == Role.CLIENT.value,
            sighting.c.sha256.is_not(None),
        )
        .group_by(sighting.c.sha256)
        .subquery()
    )
    every = union(served, select(presented.c.sha256)).subquery()
    (sha256,) = every.c
    seen = case((presented.c.sha256.is_(None), 0), else_=1)
    return (
        select(certificate.c.eku_class, seen, presented.c.required, func.count())
        .select_from(every)
        .join(certificate, certificate.c.sha256 == sha256)
        .outerjoin(presented, presented.c.sha256 == sha256)
        .group_by(certificate.c.eku_class, seen, presented.c.required)
    )


def forget_sessions(connection: Connection, before: datetime) -> int:
    """Forget who the peers of sessions before this time were (name, prefix, time of day); how many."""
    change = update(sighting).where(sighting.c.seen_at < before)
    change = change.values(prefix=None, ehlo_name=None, seen_at=None)
    return connection.execute(change).rowcount
