"""The tables of a fleet beside those of the census: what workers share, in PostgreSQL only.

Procrastinate makes its own. Nothing here is a result: a fleet's tables may be dropped once its scans are finished.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any

from procrastinate.schema import SchemaManager
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    inspect,
    select,
    text,
)

from mxcensus.fleet.pace import Operator
from storage.database import Database
from storage.dialects import upsert
from storage.schema import metadata as census_tables
from storage.schema import scan as census_scan

REVISION = 2
LOCK = 0x6D78666C74

_TRIMMED = """
DROP TRIGGER IF EXISTS procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
DROP TRIGGER IF EXISTS procrastinate_trigger_status_events_insert_v1 ON procrastinate_jobs;
DROP TRIGGER IF EXISTS procrastinate_trigger_status_events_update_v1 ON procrastinate_jobs;
DROP TRIGGER IF EXISTS procrastinate_trigger_scheduled_events_v1 ON procrastinate_jobs;
DROP TRIGGER IF EXISTS procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs;
CREATE INDEX IF NOT EXISTS fleet_waiting_lock ON procrastinate_jobs (lock) WHERE status = 'todo';
CREATE INDEX IF NOT EXISTS fleet_waiting_due ON procrastinate_jobs (scheduled_at) WHERE status = 'todo';
"""
"""The queue keeps no history of its jobs, tells nobody of new ones (workers ask twice a second), and has no
periodic jobs. Who waits for a lock, and what is due where little is, is found by an index."""

metadata = MetaData()
census_scan.to_metadata(metadata)

fleet_version = Table(
    "fleet_version",
    metadata,
    Column("revision", Integer, primary_key=True),
    Column("procrastinate", String(32), nullable=False),
)

fleet_scan = Table(
    "fleet_scan",
    metadata,
    Column("scan_id", Integer, ForeignKey("scan.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # of what was enqueued
    Column("phase", String(8), nullable=False),  # loading, route, probe, done
    Column("rounds", Integer, nullable=False, default=0),  # how often domains were left over
    Column("exclusions", JSON, nullable=False),  # texts of opt-out files, so that workers need no files
)

fleet_operator = Table(
    "fleet_operator",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next_start", Float, nullable=False),
    Column("next_ticket", Float, nullable=False),
    Column("session", Float, nullable=False),
    Column("leases", JSON, nullable=False),
    Column("blocked", JSON, nullable=False),
)

fleet_worker = Table(
    "fleet_worker",
    metadata,
    Column("name", Text, primary_key=True),  # host:process
    Column("version", Text, nullable=False),
    Column("trust_id", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("sessions", BigInteger, nullable=False),
    Column("domains", BigInteger, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("sessions_rate", Float, nullable=False),  # a second, since it was seen before
    Column("domains_rate", Float, nullable=False),
)

OURS = [table for table in metadata.sorted_tables if table.name not in census_tables.tables]


class BadFleet(ValueError):
    """A fleet that cannot be used; the message is one line."""


def make(database: Database) -> None:
    """Make the tables that are missing; several processes may try at once."""
    if database.engine.dialect.name != "postgresql":
        raise BadFleet("a fleet needs PostgreSQL: --db postgresql+psycopg://...")
    if not _is_made(database) or _revision(database)[0] < REVISION:
        database.write(_make)
    check(database)


def _make(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    names = set(inspect(connection).get_table_names())
    if "procrastinate_jobs" not in names:
        _script(connection, SchemaManager.get_schema())
    _script(connection, _TRIMMED)
    metadata.create_all(connection, tables=OURS)
    connection.execute(fleet_version.delete().where(fleet_version.c.revision < REVISION))
    made = {"revision": REVISION, "procrastinate": _engine_version()}
    upsert(connection, fleet_version, [made])


def _script(connection: Connection, statements: str) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute(statements)  # no parameters, so % needs no care


def check(database: Database) -> None:
    """Raise `BadDatabase` or `BadFleet` where tables are missing or a newer version's."""
    database.upgrade()
    if not _is_made(database):
        raise BadFleet("this database has no fleet yet: mxcensus fleet enqueue or fleet migrate makes one")
    revision, engine = _revision(database)
    if revision > REVISION:
        raise BadFleet("a newer version of mxcensus made the tables of this fleet; upgrade mxcensus")
    if revision < REVISION:
        raise BadFleet("an older version of mxcensus made the tables of this fleet: mxcensus fleet migrate")
    if engine.split(".")[:2] != _engine_version().split(".")[:2]:
        raise BadFleet(f"this fleet's queue was made by procrastinate {engine}, here is {_engine_version()}")


def _is_made(database: Database) -> bool:
    with database.reading() as connection:
        return {"fleet_version", "procrastinate_jobs"} <= set(inspect(connection).get_table_names())


def _revision(database: Database) -> tuple[int, str]:
    """The revision of the fleet's tables, and the version of the engine that they were made for."""
    query = select(fleet_version.c.revision, fleet_version.c.procrastinate)
    with database.reading() as connection:
        revision, engine = connection.execute(query).one()
    return int(revision), str(engine)


def _engine_version() -> str:
    return version("procrastinate")


_LOCKED = text(
    # One order for all, or two workers would wait for each other.
    "SELECT * FROM fleet_operator WHERE name = ANY(:names) ORDER BY name FOR UPDATE"
)


def operators(connection: Connection, names: list[str]) -> dict[str, Operator]:
    """The rows of operators, made where missing, and locked until the transaction ends."""
    found = _locked(connection, names)
    if len(found) < len(names):
        upsert(connection, fleet_operator, [asdict(Operator(name)) for name in names if name not in found])
        found = _locked(connection, names)
    return found


def _locked(connection: Connection, names: list[str]) -> dict[str, Operator]:
    return {row[0]: Operator(*row) for row in connection.execute(_LOCKED, {"names": names})}


_STORE = text(
    """
    UPDATE fleet_operator SET next_start = new.next_start, next_ticket = new.next_ticket, session = new.session,
        leases = new.leases::json, blocked = new.blocked::json
    FROM unnest(:name ::text[], :next_start ::float8[], :next_ticket ::float8[], :session ::float8[],
        :leases ::text[], :blocked ::text[]) AS new(name, next_start, next_ticket, session, leases, blocked)
    WHERE fleet_operator.name = new.name
    """
)


def store_operators(connection: Connection, changed: Collection[Operator]) -> None:
    """Write rows that `operators` locked."""
    if changed:
        columns: dict[str, list[Any]] = {
            field.name: [getattr(operator, field.name) for operator in changed] for field in fields(Operator)
        }
        for name in ("leases", "blocked"):
            columns[name] = [json.dumps(value) for value in columns[name]]
        connection.execute(_STORE, columns)


def queue_is_busy(connection: Connection, scan_id: int) -> tuple[bool, bool, float | None]:
    """Whether domains are being routed; whether addresses are being probed or due; when the next parked one is."""
    query = text(
        """
        SELECT
            EXISTS (SELECT FROM procrastinate_jobs WHERE queue_name = :route AND status IN ('todo', 'doing')),
            EXISTS (SELECT FROM procrastinate_jobs WHERE queue_name = :probe AND status IN ('todo', 'doing'))
            OR EXISTS (
                SELECT FROM procrastinate_jobs
                WHERE queue_name = :parked AND (status = 'doing' OR status = 'todo' AND scheduled_at <= now())
            ),
            (SELECT extract(epoch FROM min(scheduled_at)) FROM procrastinate_jobs
             WHERE queue_name = :parked AND status = 'todo')
        """
    )
    names = {kind: f"{kind}:{scan_id}" for kind in ("route", "probe", "parked")}
    routing, probing, parked = connection.execute(query, names).one()
    return bool(routing), bool(probing), None if parked is None else float(parked)


def analyze(connection: Connection) -> None:
    """Have the database look anew at the jobs, and at what the gate asks of their endpoints and operators.

    Where it guesses, taking the next costs a hundred times more, and a question reads every endpoint of the scan.
    The ledger has had it look at the addresses, which were all there before.
    """
    connection.execute(text("ANALYZE procrastinate_jobs, fleet_operator, endpoint"))


def prune(connection: Connection, days: int) -> int:
    """Delete failed jobs whose last turn is longer ago, and say how many; what goes well is deleted at once."""
    query = text(
        """
        DELETE FROM procrastinate_jobs
        WHERE status NOT IN ('todo', 'doing') AND scheduled_at < now() - make_interval(days => :days)
        """
    )
    return connection.execute(query, {"days": days}).rowcount
