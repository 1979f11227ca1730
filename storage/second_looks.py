"""Second looks: what endpoints present when only a certificate of the other key type is asked for.

A row an endpoint, beside its observation, which it leaves as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, case, func, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from scanner.records import Certificate, Endpoint, Observation, Role, Stage, Status
from storage import rows
from storage.database import Database
from storage.dialects import upsert
from storage.schema import certificate, certificate_list, observation, scan_certificate, second_look
from storage.store import better_role

OTHER_KEY_TYPE = {"rsa": "ec", "ec": "rsa"}

SAME_EKU, OTHER_EKU, NO_SECOND, NOT_KNOWN, NOT_LOOKED = "same-eku", "other-eku", "none", "unknown", "not-looked-for"
"""What a second look comes to."""

REFUSING_ALERTS = (40, 71)
"""handshake_failure and insufficient_security: no certificate for what was offered."""

Place = tuple[str, str, int]
"""Address, MX host and port: the order in which second looks are handed out."""


@dataclass(frozen=True, slots=True)
class Due:
    """An endpoint to look at again: `key_type` is the one that it has not shown, `ended_at` when it was left."""

    endpoint: Endpoint
    key_type: str
    ended_at: datetime

    @property
    def place(self) -> Place:
        return self.endpoint.address, self.endpoint.mx_host, self.endpoint.port


def due(connection: Connection, scan_id: int, after: Place | None, limit: int) -> list[Due]:
    """The next endpoints whose session went well and that have no second look yet, by address."""
    place = (observation.c.address, observation.c.mx_host, observation.c.port)
    names = ("scan_id", "order_key", "mx_host", "address", "port")
    looked = and_(*(second_look.c[name] == observation.c[name] for name in names))
    query = (
        select(*place, observation.c.started_at, observation.c.duration_ms, certificate.c.key_type)
        .join(certificate, certificate.c.sha256 == observation.c.certificate)
        .where(
            observation.c.scan_id == scan_id,
            observation.c.last,
            observation.c.status == Status.MEASURED.value,
            observation.c.failure.is_(None),
            certificate.c.key_type.in_(sorted(OTHER_KEY_TYPE)),
            ~select(second_look.c.port).where(looked).exists(),
        )
        .order_by(*place)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*after))
    return [
        Due(
            Endpoint(row.mx_host, row.address, row.port),
            OTHER_KEY_TYPE[row.key_type],
            row.started_at + timedelta(milliseconds=row.duration_ms),
        )
        for row in connection.execute(query)
    ]


async def write(
    database: Database,
    scan_id: int,
    seed: int,
    key_type: str,
    seen: Observation,
    certificates: Sequence[Certificate],
) -> None:
    """Store a second look and what it showed; writing it again changes nothing. `seed` is the scan's."""
    listed = [one.sha256 for one in certificates]
    row = {
        **rows.endpoint_key(scan_id, seed, seen.endpoint),
        "key_type": key_type,
        "stage": seen.stage.value,
        "failure": None if seen.failure is None else seen.failure.value,
        "tls_alert": seen.tls_alert,
        "tls_version": seen.tls_version,
        "cipher_suite": seen.cipher_suite,
        "list_sha256": rows.list_digest(listed),
        "certificate": listed[0] if listed else None,
        "started_at": seen.started_at,
        "duration_ms": seen.duration_ms,
    }
    roles = {
        sha256: {
            "scan_id": scan_id,
            "sha256": sha256,
            "role": (Role.CA if position else Role.SERVER).value,
        }
        for position, sha256 in reversed(list(enumerate(listed)))
    }

    def enter(connection: Connection) -> None:
        if listed:
            distinct = {one.sha256: rows.certificate_row(one) for one in certificates}
            upsert(connection, certificate, list(distinct.values()))
            upsert(
                connection,
                certificate_list,
                [{"list_sha256": row["list_sha256"], "certificates": listed}],
            )
            upsert(connection, scan_certificate, list(roles.values()), better_role)
        upsert(connection, second_look, [row])

    await database.run(enter)


def meaning(first_eku: ColumnElement[str], second_eku: ColumnElement[str]) -> ColumnElement[str]:
    """A second look as one word, "" where there was none; a server with one certificate may show it again."""
    again = second_look.c.certificate == observation.c.certificate
    alike = func.coalesce(first_eku, "") == func.coalesce(second_eku, "")
    refused = and_(second_look.c.stage == Stage.HANDSHAKE.value, second_look.c.tls_alert.in_(REFUSING_ALERTS))
    return case(
        (second_look.c.port.is_(None), ""),
        (again, NO_SECOND),
        (and_(second_look.c.certificate.is_not(None), alike), SAME_EKU),
        (second_look.c.certificate.is_not(None), OTHER_EKU),
        (refused, NO_SECOND),
        else_=NOT_KNOWN,
    )
