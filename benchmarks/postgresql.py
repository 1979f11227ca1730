"""What a census takes up in PostgreSQL, and what the figures of one scan of several cost there.

`python benchmarks/postgresql.py URL [DOMAINS [SCANS]]` fills an empty database with synthetic scans, an endpoint
for every five domains, and prints JSON, the last line being the whole: bytes by table (with indexes) of a scan; of
the report of the second scan the pages that the server looked at and the seconds, as the tables are and with the
large ones partitioned by scan; and the seconds in which a scan is removed either way.
"""

import json
import sys
import time
from collections.abc import Callable

from sqlalchemy import Connection, text

from benchmarks import census_rows
from mxcensus import reporting
from storage.database import Database, open_database
from storage.retention import remove_scan
from storage.schema import metadata

LARGE = ("domain", "mx_set_host", "mx_host", "mx_address", "endpoint", "observation", "scan_certificate",
         "classification", "list_classification")  # fmt: skip
PAGES = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"


def scalar(database: Database, query: str) -> int:
    with database.reading() as connection:
        return int(connection.execute(text(query)).scalar_one())


def settled(database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def timed(function: Callable[[], object]) -> float:
    began = time.monotonic()
    function()
    return time.monotonic() - began


def report_cost(url: str, scan: int) -> dict[str, float]:
    """Pages and seconds of the second of two reports; a session tells its pages when it ends."""
    for _ in range(2):
        database = open_database(url)
        before = scalar(database, PAGES)
        seconds = timed(lambda opened=database: reporting.build(opened, scan))  # type: ignore[misc]  # bound at once
        database.close()
        time.sleep(2)
        database = open_database(url)
        pages = scalar(database, PAGES) - before
        database.close()
    return {"pages": pages, "seconds": round(seconds, 1)}


def partition(connection: Connection, scans: list[int]) -> None:
    """Put the rows of the large tables into partitions, one a scan."""
    for name in LARGE:
        run = connection.exec_driver_sql
        run(f"ALTER TABLE {name} RENAME TO {name}_plain")
        like = f"LIKE {name}_plain INCLUDING GENERATED INCLUDING DEFAULTS"
        run(f"CREATE TABLE {name} ({like}) PARTITION BY LIST (scan_id)")
        columns = ", ".join(column.name for column in metadata.tables[name].c if column.computed is None)
        for scan in scans:
            run(f"CREATE TABLE {name}_{scan} PARTITION OF {name} FOR VALUES IN ({scan})")
        run(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_plain")
        keys = ", ".join(column.name for column in metadata.tables[name].primary_key)
        run(f"ALTER TABLE {name} ADD PRIMARY KEY ({keys})")
        for index in metadata.tables[name].indexes:
            run(f"CREATE INDEX ON {name} ({', '.join(column.name for column in index.columns)})")
        run(f"DROP TABLE {name}_plain")


def drop_partitions(connection: Connection, scan: int) -> None:
    for name in LARGE:
        connection.exec_driver_sql(f"DROP TABLE {name}_{scan}")


def main() -> None:
    url = sys.argv[1]
    domains = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    scans = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    database = open_database(url)
    numbers = []
    for seed in range(scans):
        with database.engine.begin() as connection:
            numbers.append(census_rows.write_census(connection, domains, domains // 5, seed=seed + 1))
        if not seed:
            settled(database)
            sizes = {
                table.name: scalar(database, f"SELECT pg_total_relation_size('{table.name}')")  # our name
                for table in metadata.sorted_tables
            }
    settled(database)
    database.close()
    sizes = {name: size for name, size in sizes.items() if size > 100_000}
    found: dict[str, object] = {"bytes": sizes, "total": sum(sizes.values())}
    print(json.dumps(found), flush=True)
    found["plain"] = report_cost(url, numbers[1])
    print(json.dumps(found), flush=True)
    database = open_database(url)
    found["remove"] = round(timed(lambda: remove_scan(database, numbers[0])), 2)
    database.write(lambda connection: partition(connection, numbers))
    settled(database)
    database.close()
    found["partitioned"] = report_cost(url, numbers[1])
    database = open_database(url)
    found["drop"] = round(
        timed(lambda: database.write(lambda connection: drop_partitions(connection, numbers[2]))), 2
    )
    database.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
