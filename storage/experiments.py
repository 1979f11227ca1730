"""Experiments in and out: their manifest, a row a trial as it ends, and what a scan has seen of an endpoint.

A trial is written once and never changed; how the keywords of a variant differ from those of the control is worked
out when rows are read, so that it does not depend on the random order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from scanner.records import ClientAuth, Endpoint
from scanner.trials import Trial
from storage.database import Database
from storage.errors import BadDatabase
from storage.rows import endpoint_key, rfc3339
from storage.schema import experiment, mx_address, observation, trial
from storage.text import escape

Fields = dict[str, Any]


async def begin(
    database: Database,
    *,
    started_at: datetime,
    tool_version: str,
    seed: int,
    approval: str | None,
    variants: Sequence[Mapping[str, str | None]],
    settings: Mapping[str, object],
) -> int:
    """Enter an experiment and return its ID; `variants` have `label, sha256, eku_class`, no key."""
    row = {
        "started_at": started_at,
        "tool_version": tool_version,
        "seed": seed,
        "approval": None if approval is None else escape(approval),
        "variants": [dict(variant) for variant in variants],
        "settings": dict(settings),
    }
    statement = insert(experiment).values(row).returning(experiment.c.id)
    return await database.run(lambda connection: int(connection.execute(statement).scalar_one()))


async def write(database: Database, experiment_id: int, position: int, done: Trial) -> None:
    """Store a trial; writing it again changes nothing."""
    row = trial_row(experiment_id, position, done)
    key = and_(trial.c.experiment_id == experiment_id, trial.c.position == position)

    def enter(connection: Connection) -> None:
        if connection.execute(select(trial.c.position).where(key)).first() is None:
            connection.execute(insert(trial).values(row))

    await database.run(enter)


async def finish(database: Database, experiment_id: int, at: datetime) -> None:
    """Note that an experiment has ended."""
    change = update(experiment).where(experiment.c.id == experiment_id).values(finished_at=at)
    await database.run(lambda connection: connection.execute(change).rowcount)


def trial_row(experiment_id: int, position: int, done: Trial) -> Fields:
    return {
        "experiment_id": experiment_id,
        "position": position,
        "mx_host": escape(done.endpoint.mx_host),
        "address": done.endpoint.address,
        "port": done.endpoint.port,
        "variant": done.variant,
        "outcome": done.outcome.value,
        "reason": done.reason,
        "stage": None if done.stage is None else done.stage.value,
        "failure": None if done.failure is None else done.failure.value,
        "client_auth": None if done.client_auth is None else done.client_auth.value,
        "presented": done.presented,
        "tls_version": done.tls_version,
        "tls_alert": done.tls_alert,
        "reply_code": done.reply_code,
        "detail": escape(done.detail),
        "ehlo_keywords": [escape(keyword) for keyword in done.ehlo_keywords],
        "started_at": done.started_at,
        "duration_ms": done.duration_ms,
    }


def trials(database: Database, experiment_id: int, control: str) -> list[Fields]:
    """Every trial by endpoint and variant, the control first.

    `keywords_added` and `keywords_removed` compare the keywords of an accepted session with those of the control at
    the same endpoint; null where there is no such pair.
    """
    order = (trial.c.mx_host, trial.c.address, trial.c.port, trial.c.variant != control, trial.c.variant)
    query = select(trial).where(trial.c.experiment_id == experiment_id).order_by(*order)
    with database.reading() as connection:
        rows = [row._asdict() for row in connection.execute(query)]
    controls = {_key(row): row for row in rows if row["variant"] == control and row["outcome"] == "accepted"}
    return [_fields(row, controls.get(_key(row))) for row in rows]


def manifest(database: Database, experiment_id: int) -> Fields:
    """What is stored of an experiment beside its trials. Raises `BadDatabase` where there is none."""
    query = select(experiment).where(experiment.c.id == experiment_id)
    with database.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise BadDatabase(f"there is no experiment {experiment_id}")
    found = row._asdict()
    return found | {
        name: rfc3339(found[name]) if found[name] is not None else None for name in ("started_at", "finished_at")
    }


def _key(row: Fields) -> tuple[str, str, int]:
    return row["mx_host"], row["address"], row["port"]


def _fields(row: Fields, control: Fields | None) -> Fields:
    added = removed = None
    if control is not None and row["outcome"] == "accepted" and row is not control:
        own, theirs = set(row["ehlo_keywords"]), set(control["ehlo_keywords"])
        added, removed = sorted(own - theirs), sorted(theirs - own)
    started_at = row["started_at"]
    return {
        **{name: value for name, value in row.items() if name not in {"experiment_id", "position"}},
        "keywords_added": added,
        "keywords_removed": removed,
        "started_at": rfc3339(started_at) if started_at is not None else None,
    }


def seen(connection: Connection, scan_id: int, seed: int, endpoint: Endpoint) -> tuple[str | None, set[str]]:
    """What a scan saw: `client_auth` of the endpoint, None without one, and of all names of its address and port.

    `seed` is the scan's.
    """
    names = select(mx_address.c.mx_host).where(
        mx_address.c.scan_id == scan_id, mx_address.c.address == endpoint.address
    )
    found: dict[str, str] = {}
    for host in connection.execute(names).scalars().all():
        key = endpoint_key(scan_id, seed, Endpoint(host, endpoint.address, endpoint.port))
        own = (observation.c[name] == value for name, value in key.items())
        verdict = connection.execute(select(observation.c.client_auth).where(*own, observation.c.last)).scalar()
        if verdict is not None:
            found[host] = verdict
    return found.get(escape(endpoint.mx_host)), set(found.values())


def refusal(own: str | None, others: set[str]) -> str | None:
    """Why a stranger's endpoint is no place for an experiment; None where it asked, and nobody there insisted."""
    if ClientAuth.REQUIRED.value in others:
        return "seen-as-required"
    return None if own == ClientAuth.REQUESTED.value else "not-seen-as-requested"
