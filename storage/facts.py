"""The columns behind the facts that are counted, as SQL: of a certificate, and all of one row as one text."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String, and_, case, cast, extract, func, literal
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from storage.dialects import formatted
from storage.schema import certificate, classification
from storage.types import UtcTime

SEPARATOR = "\x1f"

UNCLASSIFIED = "unclassified"
"""Hierarchy, programs, CA owner, exposure and cohort of a certificate that no classification pass has seen."""


def certificate_columns(began: datetime | None) -> tuple[ColumnElement[Any], ...]:
    """EKU class, hierarchy, programs, CA owner, key type and bits, days of validity, whether valid, policy cohort.

    A certificate is valid or not when the scan `began`, so that all its endpoints agree.
    """
    at = literal(began, UtcTime)
    valid = case((and_(certificate.c.not_before <= at, certificate.c.not_after >= at), "1"), else_="")
    length = extract("epoch", certificate.c.not_after) - extract("epoch", certificate.c.not_before)
    # Both ends belong to the validity period (RFC 5280 section 4.1.2.5), and a day begun counts (TLS BR 1.6.1).
    days = cast(length, BigInteger) // 86_400 + 1
    return (
        func.coalesce(classification.c.eku_class, certificate.c.eku_class),
        classification.c.hierarchy,
        classification.c.programs,
        func.replace(classification.c.ca_owner, SEPARATOR, ""),
        certificate.c.key_type,
        cast(certificate.c.key_bits, String),
        cast(days, String),
        valid,
        classification.c.exposure,
        classification.c.issued_since,
        classification.c.expires_since,
    )


def at_endpoint(one: FromClause, other: FromClause, scan_id: int) -> ColumnElement[bool]:
    """Rows of two tables are of the same endpoint of a scan."""
    same = (one.c[name] == other.c[name] for name in ("order_key", "mx_host", "address", "port"))
    return and_(one.c.scan_id == scan_id, *same)


def joined(columns: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
    """Columns as one text, "" for NULL."""
    return formatted(literal(SEPARATOR.join(["%s"] * len(columns))), *columns)
