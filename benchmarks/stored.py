"""Whether two PostgreSQL databases hold the same census, compared by a digest of every table's rows.

Left out is what two scans of the same servers do not share: when a row was written or a session began, and how long
it took. A scan's own row (its settings, its times) is not compared.
"""

from sqlalchemy import Connection, Table, text

from storage.database import open_database
from storage.schema import metadata, scan

PASSING = {"started_at", "ended_at", "claimed_at", "duration_ms"}


def differences(one: str, other: str) -> list[str]:
    """The tables whose rows differ between two databases, with how many rows each has."""
    found, expected = digests(one), digests(other)
    return [
        f"{name}: {rows} and {expected[name][0]} rows"
        for name, (rows, digest) in found.items()
        if (rows, digest) != expected[name]
    ]


def digests(url: str) -> dict[str, tuple[int, str]]:
    """The number of rows and a digest of them, whatever their order, of every table of the census."""
    database = open_database(url, create=False)
    try:
        with database.reading() as connection:
            return {table.name: _digest(connection, table) for table in metadata.sorted_tables if table is not scan}
    finally:
        database.close()


def _digest(connection: Connection, table: Table) -> tuple[int, str]:
    names = ", ".join(f'"{column.name}"' for column in table.c if column.name not in PASSING)
    query = f"""
        SELECT count(*), coalesce(md5(string_agg(digest, '' ORDER BY digest)), '')
        FROM (SELECT md5(ROW({names})::text) AS digest FROM "{table.name}") AS digests
    """
    rows, digest = connection.execute(text(query)).one()
    return int(rows), str(digest)
