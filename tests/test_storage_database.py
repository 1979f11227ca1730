"""Opening a database: one clear line for everything that cannot be, and nothing said that is secret."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from storing import START, new_scan

from storage.database import Database, open_database
from storage.errors import BadDatabase, DatabaseGone, DiskFull, StorageFailed
from storage.schema import scan


def refusal(url, **options):
    with pytest.raises(BadDatabase) as refused:
        open_database(url, **options)
    line = str(refused.value)
    assert "\n" not in line
    assert "secret" not in line
    return line


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("census.db", "cannot be read"),
        ("", "cannot be read"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://root:secret@localhost/census", "no database for mxcensus"),
        ("nonsense://x", "no database for mxcensus"),
        ("postgresql+nonsense://root:secret@localhost/census", "cannot be read"),
        ("postgresql+psycopg://root:secret@localhost:port/census", "cannot be read"),
        ("postgresql+psycopg://root:secret@127.0.0.1:1/census", "refused"),
        ("postgresql://root:secret@127.0.0.1:1/census", "refused"),
    ],
)
def test_urls_that_lead_nowhere(url, says):
    assert says in refusal(url)


def test_files_that_are_no_database(tmp_path):
    assert "no such directory" in refusal(f"sqlite:///{tmp_path}/none/census.db")
    assert "is a directory" in refusal(f"sqlite:///{tmp_path}")
    missing = tmp_path / "missing.db"
    assert "no such database" in refusal(f"sqlite:///{missing}", create=False)
    assert not missing.exists()
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"garbage" * 1000)
    assert "not a database" in refusal(f"sqlite:///{garbage}")
    theirs = tmp_path / "theirs.db"
    with sqlite3.connect(theirs) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER)")
    connection.close()
    assert "not a database of mxcensus" in refusal(f"sqlite:///{theirs}")
    empty = tmp_path / "empty.db"
    empty.touch()
    assert "not a database of mxcensus" in refusal(f"sqlite:///{empty}", create=False)


def test_a_newer_schema_is_refused(database_url):
    database = open_database(database_url)
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    assert "newer version" in refusal(database_url)
    assert "newer version" in refusal(database_url, create=False)


def test_a_new_file_is_its_owners_only(tmp_path):
    before = os.umask(0)
    try:
        database = open_database(f"sqlite:///{tmp_path}/census.db")
        with database.reading():
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["census.db", "census.db-wal", "census.db-shm"], 0o600)


@contextlib.contextmanager
def unprivileged():
    """Root may write everywhere, so become somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file_can_be_read_but_not_scanned_into():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "census.db")
        open_database(f"sqlite:///{path}").close()
        path.chmod(0o444)
        path.parent.chmod(0o777)
        with unprivileged():
            database = open_database(f"sqlite:///{path}", create=False)
            assert database.scans() == []
            with pytest.raises(StorageFailed, match="readonly"):
                asyncio.run(new_scan(database))
            database.close()
            assert "read-only" in refusal(f"sqlite:///{path}")
        for left in path.parent.glob("census.db-*"):
            left.unlink()
        path.parent.chmod(0o555)
        with unprivileged():
            assert "read-only" in refusal(f"sqlite:///{path}", create=False)


@pytest.mark.lab
def test_a_role_that_may_only_read(postgresql):
    name = postgresql.database(lambda url: open_database(url).close()).partition("@/")[2].partition("?")[0]
    postgresql.sql("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    postgresql.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", name=name)
    url = postgresql.url(name, "reader")
    database = open_database(url, create=False)
    assert database.scans() == []
    with pytest.raises(StorageFailed, match="permission denied"):
        asyncio.run(new_scan(database))
    database.close()
    assert "permission denied" in refusal(url)
    postgresql.sql("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reader", name=name)
    postgresql.sql("DROP ROLE reader")


def test_a_password_is_never_shown(tmp_path):
    with pytest.raises(BadDatabase) as refused:
        open_database("postgresql+psycopg://u:secret@127.0.0.1:1/census?password=secret")
    assert "secret" not in str(refused.value)


async def test_scans(database):
    with pytest.raises(BadDatabase, match="has no scan"):
        database.scan_info()
    first = await new_scan(database, label="one", settings={"limits": {"rate": 1.5}}, seed=2**62)
    second = await new_scan(database, state="loading")
    await database.set_state(first, "finished", START + timedelta(hours=1))
    assert [info.scan for info in database.scans()] == [first, second]
    assert database.scan_info().state == "loading"
    info = database.scan_info(first)
    assert (info.label, info.state, info.seed, info.settings) == (
        "one",
        "finished",
        2**62,
        {"limits": {"rate": 1.5}},
    )
    assert (info.started_at, info.finished_at) == (START, START + timedelta(hours=1))
    with pytest.raises(BadDatabase, match="there is no scan 999"):
        database.scan_info(999)


async def test_what_fails_leaves_nothing(database):
    scan_id = await new_scan(database)

    def half(connection):
        connection.execute(scan.delete())
        raise KeyError

    with pytest.raises(KeyError):
        await database.run(half)
    assert database.scan_info().scan == scan_id


@pytest.mark.lab
def test_several_processes_may_make_the_tables_at_once(tmp_path, request):
    for url in (f"sqlite:///{tmp_path}/census.db", request.getfixturevalue("postgresql").database()):
        program = "import sys; from storage.database import open_database; open_database(sys.argv[1]).close()"
        running = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]
        assert [process.wait(60) for process in running] == [0, 0, 0]


async def test_a_lock_that_another_holds_is_waited_for(tmp_path):
    url = f"sqlite:///{tmp_path}/census.db"
    database = open_database(url)
    other = sqlite3.connect(tmp_path / "census.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(new_scan(database))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    assert await asyncio.wait_for(waiting, 20) == 1
    database.close()


async def test_a_full_disk_is_said_in_one_line(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/census.db")

    def fill(connection):
        connection.execute(text("PRAGMA max_page_count = 1"))
        connection.execute(scan.insert().values(_row()))
        for _ in range(1000):
            connection.execute(text("UPDATE scan SET label = coalesce(label, '') || hex(zeroblob(5000))"))

    with pytest.raises(DiskFull, match="no room left"):
        await database.run(fill)
    with database.reading() as connection:
        assert connection.execute(select(scan)).all() == []
    database.close()


def _row():
    texts = dict.fromkeys(("state", "tool_version", "rules_version"), "1")
    return {**texts, "started_at": START, "seed": 1, "settings": {}}


async def test_patience_ends(tmp_path):
    open_database(f"sqlite:///{tmp_path}/census.db").close()
    opened = open_database(f"sqlite:///{tmp_path}/census.db")
    database = Database(opened.engine, patience=0)
    other = sqlite3.connect(tmp_path / "census.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def impatient(connection):
        raise AssertionError("never called")

    with opened.engine.connect() as connection:
        connection.execute(text("PRAGMA busy_timeout = 10"))
    with pytest.raises(DatabaseGone, match="did not come back"):
        await database.run(impatient)
    other.close()
    database.close()
    opened.close()
