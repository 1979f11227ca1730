"""The tables of a fleet beside those of the census: what workers share, in PostgreSQL only.

Procrastinate makes its own. Nothing here is a result: a fleet's tables may be dropped once its scans are finished.
"""

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

REVISION = 1
LOCK = 0x6D78666C74

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
    if not _is_made(database):
        database.write(_make)
    check(database)


def _make(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    names = set(inspect(connection).get_table_names())
    if "procrastinate_jobs" not in names:
        driver: Any = connection.connection.driver_connection
        driver.execute(SchemaManager.get_schema())  # no parameters, so % needs no care
    if "fleet_version" not in names:
        metadata.create_all(connection, tables=OURS)
        connection.execute(fleet_version.insert().values(revision=REVISION, procrastinate=_engine_version()))


def check(database: Database) -> None:
    """Raise `BadDatabase` or `BadFleet` where tables are missing or a newer version's."""
    database.upgrade()
    if not _is_made(database):
        raise BadFleet("this database has no fleet yet: mxcensus fleet enqueue or fleet migrate makes one")
    with database.reading() as connection:
        revision, engine = connection.execute(select(fleet_version.c.revision, fleet_version.c.procrastinate)).one()
    if revision > REVISION:
        raise BadFleet("a newer version of mxcensus made the tables of this fleet; upgrade mxcensus")
    if engine.split(".")[:2] != _engine_version().split(".")[:2]:
        raise BadFleet(f"this fleet's queue was made by procrastinate {engine}, here is {_engine_version()}")


def _is_made(database: Database) -> bool:
    with database.reading() as connection:
        return {"fleet_version", "procrastinate_jobs"} <= set(inspect(connection).get_table_names())


def _engine_version() -> str:
    return version("procrastinate")


def operators(connection: Connection, names: list[str]) -> dict[str, Operator]:
    """The rows of operators, made where missing, and locked until the transaction ends."""
    fresh = [_row(Operator(name)) for name in names]
    upsert(connection, fleet_operator, fresh)
    query = (
        select(fleet_operator)
        .where(fleet_operator.c.name.in_(names))
        .order_by(fleet_operator.c.name)  # one order for all, or two workers would wait for each other
        .with_for_update()
    )
    return {row.name: Operator(*row) for row in connection.execute(query)}


def store_operators(connection: Connection, changed: list[Operator]) -> None:
    """Write rows that `operators` locked."""
    facts = [column.name for column in fleet_operator.c if not column.primary_key]
    rows = [_row(operator) for operator in changed]
    upsert(connection, fleet_operator, rows, lambda new: {name: new[name] for name in facts})


def _row(operator: Operator) -> dict[str, object]:
    return {
        "name": operator.name,
        "next_start": operator.next_start,
        "next_ticket": operator.next_ticket,
        "session": operator.session,
        "leases": {holder: list(lease) for holder, lease in operator.leases.items()},
        "blocked": operator.blocked,
    }


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


def prune(connection: Connection, days: int) -> int:
    """Delete ended jobs that are older; those that went well are deleted when they end. Returns how many."""
    query = text(
        """
        DELETE FROM procrastinate_jobs job
        WHERE job.status NOT IN ('todo', 'doing') AND NOT EXISTS (
            SELECT FROM procrastinate_events event
            WHERE event.job_id = job.id AND event.at > now() - make_interval(days => :days)
        )
        """
    )
    return connection.execute(query, {"days": days}).rowcount
