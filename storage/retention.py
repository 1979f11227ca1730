"""Removes whole scans and experiments when their time is over, from every table; what others share stays.

A scan's rows are those with its `scan_id`, whatever the table, so a table that is new is reached too. Certificates,
certificate lists and CA name sets belong to no scan: they go when the last scan that refers to them has gone. On
SQLite what was deleted is overwritten, in the file's log once the last connection is closed.

Figures are not rows: whoever wants to keep them has them counted first (`mxcensus purge --keep-reports`).
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from storage import dialects
from storage.database import Database
from storage.schema import (
    ca_name_set,
    certificate,
    certificate_list,
    endpoint,
    experiment,
    metadata,
    observation,
    scan,
    scan_certificate,
    second_look,
    sighting,
    trial,
)

OF_A_SCAN = tuple(table for table in reversed(metadata.sorted_tables) if "scan_id" in table.c)

REFERENCES: Mapping[Table, tuple[ColumnElement[str | None], ...]] = {
    certificate_list: (observation.c.list_sha256, second_look.c.list_sha256, sighting.c.list_sha256),
    ca_name_set: (observation.c.ca_names_sha256,),
    certificate: (scan_certificate.c.sha256,),
}
"""What may refer to a row that belongs to no scan, by the table's one key."""


def last_activity(database: Database, scan_id: int) -> datetime:
    """When a scan ended; of one that has not, when it last did something that is stored."""
    with database.reading() as connection:
        row = connection.execute(select(scan).where(scan.c.id == scan_id)).one()
        columns = (observation.c.started_at, endpoint.c.claimed_at, sighting.c.seen_at)
        found: list[datetime | None] = [row.started_at, row.finished_at]
        if row.finished_at is None:
            found += [
                connection.execute(select(func.max(column)).where(column.table.c.scan_id == scan_id)).scalar()
                for column in columns
            ]
    return max(at for at in found if at is not None)


def remove_scan(database: Database, scan_id: int) -> dict[str, int]:
    """Delete a scan; rows deleted by table. One transaction.

    Its number is never given to another scan. A scan that is not there is nothing to delete.
    """

    def work(connection: Connection) -> dict[str, int]:
        dialects.overwrite_deleted(connection)
        deleted = {table.name: _delete(connection, table, table.c.scan_id == scan_id) for table in OF_A_SCAN}
        return {**deleted, scan.name: _delete(connection, scan, scan.c.id == scan_id)}

    return database.write(work)


def remove_unused_facts(database: Database) -> dict[str, int]:
    """Delete what belongs to no scan and no scan refers to; rows deleted by table. One transaction.

    Not while a scan runs: it may store a certificate some time before the session that presented it.
    """

    def work(connection: Connection) -> dict[str, int]:
        dialects.overwrite_deleted(connection)
        deleted = {}
        for table, columns in REFERENCES.items():
            (key,) = table.primary_key
            unused = select(key).except_(*(select(column).where(column.is_not(None)) for column in columns))
            deleted[table.name] = _delete(connection, table, key.in_(unused))
        return deleted

    return database.write(work)


def old_experiments(database: Database, before: datetime) -> list[int]:
    """Experiments whose last trial began, and which ended, before that time."""
    last = select(func.max(trial.c.started_at)).where(trial.c.experiment_id == experiment.c.id).scalar_subquery()
    latest = func.coalesce(experiment.c.finished_at, last, experiment.c.started_at)
    query = select(experiment.c.id).where(latest < before).order_by(experiment.c.id)
    with database.reading() as connection:
        return list(connection.execute(query).scalars())


def outcomes(database: Database, experiment_id: int) -> list[dict[str, object]]:
    """What became of an experiment's trials, counted: no row names a host."""
    kinds = (trial.c.variant, trial.c.outcome, trial.c.reason)
    query = (
        select(*kinds, func.count().label("count"))
        .where(trial.c.experiment_id == experiment_id)
        .group_by(*kinds)
        .order_by(*kinds)
    )
    with database.reading() as connection:
        return [row._asdict() for row in connection.execute(query)]


def remove_experiment(database: Database, experiment_id: int) -> dict[str, int]:
    """Delete an experiment with its trials; rows deleted by table. One transaction."""

    def work(connection: Connection) -> dict[str, int]:
        dialects.overwrite_deleted(connection)
        return {
            trial.name: _delete(connection, trial, trial.c.experiment_id == experiment_id),
            experiment.name: _delete(connection, experiment, experiment.c.id == experiment_id),
        }

    return database.write(work)


def _delete(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    return connection.execute(delete(table).where(condition)).rowcount
