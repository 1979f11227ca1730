"""The temporary tables of one report: what they are, and how they are filled.

    report_standing  (MX set, routing, what the domain's own DNS says) -> how many domains, and their weight
    report_set       MX set -> the same
    report_band      the ten largest operators
    report_endpoint  endpoint -> all facts that are counted, as one text
    report_profile   that text -> its number
    report_private   the numbers of those with a private or self-signed certificate
    report_member    endpoint -> its units and its number; a row too for each MX host without endpoints
    report_UNIT      unit -> the lowest and the highest number of its members: equal where all are alike
    report_domain    MX set -> domains, weight, the lowest and the highest number of its hosts

Sightings (`storage.sightings`) are rows of `report_endpoint` that have no MX host and no address, but a weight.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    insert,
    text,
)
from sqlalchemy.sql.selectable import Select

from storage import dialects
from storage.types import Name

NO_ADDRESS = 0
"""The number of an MX host that resolves to nothing."""
NOT_ENROLLED = -1
"""The number of an MX host with an address, but no endpoint yet: the scan was interrupted before."""

_metadata = MetaData()


def _table(name: str, *items: Column[Any] | Index) -> Table:
    keyed = any(isinstance(item, Column) and item.primary_key for item in items)
    table = Table(name, _metadata, *items, prefixes=["TEMPORARY"], sqlite_with_rowid=not keyed)
    # Keys and indexes are how SQLite joins; PostgreSQL hashes, and would only have to keep them.
    table.primary_key.ddl_if(dialect="sqlite")
    for index in table.indexes:
        index.ddl_if(dialect="sqlite")
    return table


STANDING = _table(
    "report_standing",
    Column("mx_set", Name, primary_key=True),  # "": none
    Column("routing", Name, primary_key=True),  # "": not resolved yet
    Column("standing", Name, primary_key=True),
    Column("domains", BigInteger),
    Column("weight", Float),
)
SET = _table(
    "report_set", Column("mx_set", Name, primary_key=True), Column("domains", BigInteger), Column("weight", Float)
)
BAND = _table("report_band", Column("operator", Name, primary_key=True), Column("band", SmallInteger))
ENDPOINT = _table(
    "report_endpoint",
    Column("mx_host", Name),
    Column("address", Name),
    Column("operator", Name),
    Column("certificate", Name),
    Column("facts", Name),
    Column("weight", Float),
)
PROFILE = _table("report_profile", Column("facts", Name, primary_key=True), Column("profile", Integer))
PRIVATE = _table("report_private", Column("profile", Integer, primary_key=True))
MEMBER = _table(
    "report_member",
    Column("mx_host", Name),
    Column("address", Name),
    Column("operator", Name),
    Column("certificate", Name),
    Column("profile", Integer),
    Index("report_member_host", "mx_host", "profile"),  # all that is asked of the hosts of a domain
)
UNITS: Mapping[str, Table] = MappingProxyType(
    {
        name: _table(
            f"report_{name}",
            Column("unit", Name, primary_key=True),
            Column("low", Integer),
            Column("high", Integer),
        )
        for name in ("certificate", "address", "mx_host", "operator")
    }
)
DOMAINS = _table(
    "report_domain",
    Column("unit", Name, primary_key=True),
    Column("units", BigInteger),
    Column("weight", Float),
    Column("low", Integer),
    Column("high", Integer),
)


@contextmanager
def tables(connection: Connection) -> Iterator[None]:
    """All of them, empty, for as long as the block lasts."""
    dialects.read_much(connection)
    _metadata.drop_all(connection)
    _metadata.create_all(connection)
    try:
        yield
    finally:
        _metadata.drop_all(connection)


def fill(connection: Connection, table: Table, statement: Select[*tuple[Any, ...]]) -> None:
    """Add the rows of a SELECT, whose columns are those of the table."""
    connection.execute(insert(table).from_select([column.name for column in table.columns], statement))
    _analyze(connection, table)


def put(connection: Connection, table: Table, rows: Iterable[dict[str, object]]) -> None:
    """Add rows."""
    values = list(rows)
    if values:
        connection.execute(insert(table), values)
        _analyze(connection, table)


def _analyze(connection: Connection, table: Table) -> None:
    connection.execute(text(f"ANALYZE {table.name}"))  # nothing else tells a planner about a temporary table
