"""The only place that knows one database from another: SQLite and PostgreSQL.

Everything else is SQLAlchemy Core that means the same on both. What differs: how an engine is made, how a write
transaction begins, which errors pass by themselves, and how many rows enter at once.

SQLite writes its log with `synchronous=NORMAL`: a commit survives the death of the process at any moment
(kill -9), but the last ones before a power cut may be undone, in order and without damage.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    URL,
    Column,
    Connection,
    Engine,
    Table,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from storage.errors import BadDatabase
from storage.types import utc

Columns = Mapping[str, ColumnElement[Any]]
Row = Mapping[str, Any]
Update = Callable[[Columns], Mapping[str, ColumnElement[Any]]]
"""From the columns of the new row to what the stored row's columns become."""
Condition = Callable[[Columns], ColumnElement[bool]]
"""From the columns of the new row to whether the stored row changes."""

WRITES = "mxcensus_writes"
"""Execution option of a connection whose transactions write."""

_BUSY_MILLISECONDS = 10_000


class Trouble(Enum):
    """What an error of the database means for whoever wanted to write."""

    PASSING = auto()  # the same transaction may work later: gone, starting up, locked, deadlocked
    FULL = auto()
    READ_ONLY = auto()
    NOT_A_DATABASE = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class _Dialect:
    engine: Callable[[URL, bool], Engine]
    insert: Callable[[Table, Sequence[str]], Any]
    trouble: Callable[[DBAPIError], Trouble]
    send: Callable[[Connection, Table, Sequence[Row], SQLCompiler], int]
    add: Callable[[Connection, Table, Sequence[Row]], object]


def make_engine(url: URL, *, create: bool) -> Engine:
    """An engine for `url`; the SQLite file is made if `create`, readable by its owner only. `BadDatabase`."""
    return _of(url.get_backend_name()).engine(url, create)


def trouble(error: DBAPIError, engine: Engine) -> Trouble:
    """What `error` means."""
    return _of(engine.dialect.name).trouble(error)


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    update: Update | None = None,
    where: Condition | None = None,
) -> int:
    """Insert rows, all with the same keys; where the primary key is taken, do nothing or what `update` says.

    With `where` only rows for which it holds are updated. With `update`, no two rows may have the same primary key.
    Returns how many rows were inserted or updated.
    """
    if not rows:
        return 0
    statement = _statement(connection.dialect, table, tuple(rows[0]), update, where)
    return _of(connection.dialect.name).send(connection, table, rows, statement)


def add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """What `upsert` does without `update`, in the way that is quick for rows that are new, as they mostly are."""
    if rows:
        _of(connection.dialect.name).add(connection, table, rows)


def lock_schema(connection: Connection) -> None:
    """Keep others from changing the tables until the transaction ends; SQLite's write lock does so already."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(0x6D78636E73)))


def read_much(connection: Connection) -> None:
    """Let this transaction sort and join whole tables in memory, where the database has to be asked for that."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL work_mem = '128MB'")
        connection.exec_driver_sql("SET LOCAL cursor_tuple_fraction = 1")  # every row is fetched, not the first few
    else:
        connection.exec_driver_sql("PRAGMA threads=2")  # that may sort beside the statement


def analyze(connection: Connection, table: Table) -> None:
    """Have a planner that goes by statistics look at a table that was just filled; SQLite's goes by the keys."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {table.name}")


class formatted(FunctionElement[str]):  # noqa: N801  # used like a function of SQL
    """Values as text in the places of `%s` in the first argument, "" for NULL; quicker than to chain them."""

    type = Text()
    inherit_cache = True


@compiles(formatted)
def _format(element: formatted, compiler: SQLCompiler, **kw: Any) -> str:
    return f"format({compiler.process(element.clauses, **kw)})"


@compiles(formatted, "sqlite")
def _printf(element: formatted, compiler: SQLCompiler, **kw: Any) -> str:
    return f"printf({compiler.process(element.clauses, **kw)})"  # its older name, that versions before 3.38 know


def overwrite_deleted(connection: Connection) -> None:
    """Have what this connection deletes overwritten in the file, where the database can do that."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


@lru_cache(maxsize=100)
def _statement(
    dialect: Dialect, table: Table, names: tuple[str, ...], update: Update | None, where: Condition | None
) -> SQLCompiler:
    """The insert, made once for each place that asks for it: for each batch it cost 3 microseconds a row."""
    key = list(table.primary_key)
    insert = _DIALECTS[dialect.name].insert(table, names)
    if update is None:
        statement = insert.on_conflict_do_nothing(index_elements=key)
    else:
        new = dict(insert.excluded.items())
        condition = None if where is None else where(new)
        statement = insert.on_conflict_do_update(index_elements=key, set_=update(new), where=condition)
    compiled: SQLCompiler = statement.compile(dialect=dialect)
    return compiled


def _of(name: str) -> _Dialect:
    if name not in _DIALECTS:
        raise BadDatabase(f"{name} is no database for mxcensus: use sqlite:///FILE or postgresql+psycopg://...")
    return _DIALECTS[name]


# ---------------------------------------------------------------------------------------------------- SQLite


def _sqlite_engine(url: URL, create: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise BadDatabase("a SQLite database needs a file: sqlite:///census.db")
    path = Path(url.database)
    if path.is_dir():
        raise BadDatabase(f"{path} is a directory")
    if not path.parent.is_dir():
        raise BadDatabase(f"no such directory: {path.parent}")
    if not path.exists():
        if not create:
            raise BadDatabase(f"no such database: {path}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise BadDatabase(f"{path}: {error.strerror}") from None
    engine = create_engine(url, connect_args={"timeout": _BUSY_MILLISECONDS / 1000})
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 begins no transaction by itself; `_sqlite_begin` does
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-32768")  # KB; a sort takes as much again
    cursor.execute("PRAGMA wal_autocheckpoint=8000")  # pages; rows come in random order and touch many
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # A transaction that reads before it writes could not wait for another's lock.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


_SQLITE_TROUBLE = {
    sqlite3.SQLITE_BUSY: Trouble.PASSING,
    sqlite3.SQLITE_LOCKED: Trouble.PASSING,
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_READONLY: Trouble.READ_ONLY,
    sqlite3.SQLITE_NOTADB: Trouble.NOT_A_DATABASE,
    sqlite3.SQLITE_CORRUPT: Trouble.NOT_A_DATABASE,
}


def _sqlite_trouble(error: DBAPIError) -> Trouble:
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return _SQLITE_TROUBLE.get(code & 0xFF, Trouble.OTHER)


def _sqlite_insert(table: Table, names: Sequence[str]) -> Any:
    return sqlite.insert(table).values({name: bindparam(f"_{name}", type_=table.c[name].type) for name in names})


def _sqlite_send(connection: Connection, table: Table, rows: Sequence[Row], statement: SQLCompiler) -> int:
    # SQLAlchemy makes the statement; the parameters are made here, a column at a time, at a third of the cost.
    columns = {f"_{name}": _bound(connection, table.c[name], [row[name] for row in rows]) for name in rows[0]}
    order = statement.positiontup or ()
    for name in order:
        columns.setdefault(name, [statement.params[name]] * len(rows))  # a constant of the statement
    parameters = list(zip(*(columns[name] for name in order), strict=True))
    return connection.exec_driver_sql(str(statement), parameters).rowcount


def _bound(connection: Connection, column: Column[Any], values: list[Any]) -> list[Any]:
    """Values as the driver takes them."""
    if isinstance(column.type, JSON):
        return [None if value is None else _json(value) for value in values]
    process = column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    return values if process is None else [process(value) for value in values]


def _json(value: Any) -> str:
    return _json_of_tuple(value) if type(value) is tuple else json.dumps(value)


_json_of_tuple = lru_cache(1000)(json.dumps)  # what many servers say becomes text once


# ------------------------------------------------------------------------------------------------ PostgreSQL


def _postgresql_engine(url: URL, _create: bool) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    options = {"connect_timeout": 10, "application_name": "mxcensus", "options": "-c timezone=UTC"}
    given = {name: value for name, value in options.items() if name not in url.query}
    try:
        return create_engine(url, connect_args=given, pool_pre_ping=True)
    except ImportError:
        raise BadDatabase("PostgreSQL needs a driver: pip install 'mxcensus[postgresql]'") from None


def _postgresql_trouble(error: DBAPIError) -> Trouble:
    state = getattr(error.orig, "sqlstate", None)
    if state == "53100":  # disk_full
        return Trouble.FULL
    if state == "25006":  # read_only_sql_transaction: for good, or a standby that is about to be promoted
        return Trouble.READ_ONLY
    # psycopg raises OperationalError for a lost connection, a server that starts or stops, deadlocks; a server
    # that crashed says so in other classes, but then the connection is lost too.
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return Trouble.PASSING
    return Trouble.PASSING if isinstance(error, InternalError) and state is None else Trouble.OTHER


def _postgresql_insert(table: Table, names: Sequence[str]) -> Any:
    # One parameter however many rows, and no table in between: a commit that empties one costs 2 ms.
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
    given = rows.table_valued(*(Column(name, table.c[name].type) for name in names))
    source = select(*given.render_derived(name="given", with_types=True).c)
    return postgresql.insert(table).from_select(list(names), source)


def _postgresql_send(connection: Connection, _table: Table, rows: Sequence[Row], statement: SQLCompiler) -> int:
    text = json.dumps(rows, default=_json_value, separators=(",", ":"))
    return connection.exec_driver_sql(str(statement), {**statement.params, "rows": text}).rowcount


def _json_value(value: object) -> str:
    """What JSON has no type for, as PostgreSQL reads it."""
    if isinstance(value, datetime):
        return utc(value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    raise TypeError(f"a {type(value).__name__} in a row")


def _postgresql_add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    # COPY is the way in that costs the client and the server least, but it knows no conflicts.
    names = list(rows[0])
    values = zip(*(_bound(connection, table.c[name], [row[name] for row in rows]) for name in names), strict=True)
    try:
        with connection.begin_nested():
            _copy_in(connection, f"COPY {table.name} ({', '.join(names)}) FROM STDIN", values)
    except IntegrityError:
        upsert(connection, table, rows)


def _copy_in(connection: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    """Send rows by the driver's own COPY, with errors as SQLAlchemy would raise them."""
    driver: Any = connection.connection.driver_connection
    base: Any = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except base as error:
        lost = bool(driver.closed)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, base, connection_invalidated=lost, dialect=connection.dialect
        ) from error


_DIALECTS: Mapping[str, _Dialect] = {
    "sqlite": _Dialect(_sqlite_engine, _sqlite_insert, _sqlite_trouble, _sqlite_send, upsert),
    "postgresql": _Dialect(
        _postgresql_engine, _postgresql_insert, _postgresql_trouble, _postgresql_send, _postgresql_add
    ),
}
