"""storage/roles.sql in a real PostgreSQL: the scanner may work, the dashboard may read, nobody else may look."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from storing import certificate, endpoint, measured, new_scan, routing, store

import storage
from mxcensus import reporting
from storage.database import open_database
from storage.errors import BadDatabase, StorageFailed
from storage.schema import metadata, observation

SCRIPT = Path(storage.__file__).parent / "roles.sql"
SCANNER, DASHBOARD = "mxcensus_scanner", "mxcensus_dashboard"

pytestmark = pytest.mark.lab


@pytest.fixture(params=["before the tables", "after the tables"])
def urls(postgresql, request):
    """A URL by role of a database whose roles were made by the script, twice."""
    late = request.param == "after the tables"
    url = postgresql.database((lambda template: open_database(template).close()) if late else None)
    name = url.partition("@/")[2].partition("?")[0]
    for _ in range(2):
        postgresql.psql(name, SCRIPT)
    postgresql.sql("DROP ROLE IF EXISTS somebody", "CREATE ROLE somebody LOGIN")
    yield {user: postgresql.url(name, user) for user in (SCANNER, DASHBOARD, "somebody")}
    postgresql.drop(url)
    postgresql.sql("DROP ROLE somebody")


def test_the_scanner_migrates_and_writes_and_the_dashboard_reads(urls):
    scanner = open_database(urls[SCANNER])
    scan_id = asyncio.run(new_scan(scanner))
    host = endpoint()
    asyncio.run(
        store(
            scanner,
            scan_id,
            routing("a.example", (10, host.mx_host, [host.address])),
            certificate(b"leaf"),
            measured(host),
        )
    )
    dashboard = open_database(urls[DASHBOARD], create=False)
    report = reporting.build(dashboard, scan_id)
    assert report.scan.scan == scan_id
    with dashboard.reading() as connection:
        assert len(connection.execute(observation.select()).all()) == 1
        for table in metadata.sorted_tables:
            connection.execute(table.select().limit(1))
    with pytest.raises(StorageFailed, match="permission denied"):
        asyncio.run(new_scan(dashboard))
    dashboard.close()
    scanner.close()


NOT_THE_SCANNERS = ("CREATE ROLE other", "CREATE DATABASE other", "COPY scan TO PROGRAM 'true'")
NOT_THE_DASHBOARDS = (
    "DELETE FROM scan",
    "UPDATE scan SET label = 'x'",
    "TRUNCATE observation",
    "DROP TABLE observation",
    "CREATE TABLE mine (a int)",
    *NOT_THE_SCANNERS,
)


@pytest.mark.parametrize(("role", "statements"), [(SCANNER, NOT_THE_SCANNERS), (DASHBOARD, NOT_THE_DASHBOARDS)])
def test_what_a_role_may_not(urls, role, statements):
    open_database(urls[SCANNER]).close()
    engine = create_engine(urls[role], isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            with pytest.raises(DBAPIError, match="InsufficientPrivilege"):
                connection.execute(text(statement))
    engine.dispose()


def test_nobody_else_may_connect(urls):
    with pytest.raises(BadDatabase, match="permission denied"):
        open_database(urls["somebody"])
