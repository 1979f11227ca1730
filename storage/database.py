"""Opens a database and runs transactions in it, off the event loop and again when the database was away.

All writes go through one thread, so that they never wait for one another's locks. A function that is given to
`write` or `run` gets a connection inside a transaction of its own. It may be called again when the first try
failed, even after a commit whose answer was lost: it has to change nothing the second time.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, Row, delete, make_url, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from scanner.records import ScanInfo
from storage import dialects, migrate
from storage.dialects import Trouble
from storage.errors import BadDatabase, DatabaseGone, DiskFull, StorageFailed
from storage.schema import scan

Result = TypeVar("Result")

PATIENCE_SECONDS = 300.0
"""How long a write waits for a database that is gone before the scan is given up."""

_FIRST_PAUSE, _LONGEST_PAUSE, _LAST_MOMENT = 0.05, 2.0, 10.0


class Database:
    """One open database. Close it; the methods that are not coroutines may block."""

    def __init__(self, engine: Engine, *, patience: float = PATIENCE_SECONDS) -> None:
        self.engine = engine
        self._patience = patience
        self._closing = threading.Event()
        self._writer = ThreadPoolExecutor(1, "mxcensus-writes")
        self._reader = ThreadPoolExecutor(1, "mxcensus-reads")

    def __str__(self) -> str:
        return shown(self.engine.url)

    async def run(self, function: Callable[[Connection], Result]) -> Result:
        """Call `function` in a write transaction in the writer thread. Raises `StorageFailed` when given up."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, partial(self._transact, function))

    def write(self, function: Callable[[Connection], Result]) -> Result:
        """What `run` does, for callers without an event loop."""
        return self._writer.submit(self._transact, function).result()

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        """Call `function` in a read transaction in the reader thread; as patient as `run`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, partial(self._transact, function, writes=False))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading in this thread, inside one transaction: one state of the database."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def let_go(self) -> None:
        """Close the connections that nobody uses now: each keeps a cache of what it was last used for."""
        self.engine.dispose()

    def close(self) -> None:
        """Finish the writes that were begun, and close every connection."""
        self._closing.set()
        self._writer.shutdown()
        self._reader.shutdown()
        self.engine.dispose()

    def upgrade(self) -> None:
        """Bring the tables to this version's schema; `BadDatabase` when a newer version made them."""
        migrate.upgrade(self.engine)

    # ------------------------------------------------------------------------------------------------ scans

    async def new_scan(
        self,
        *,
        label: str | None,
        started_at: datetime,
        tool_version: str,
        rules_version: str,
        trust_id: str | None,
        seed: int,
        settings: Mapping[str, object],
        state: str = "running",
    ) -> int:
        """Enter a scan and return its ID; `settings` are JSON values without secrets."""
        row = {
            "label": label,
            "state": state,
            "started_at": started_at,
            "tool_version": tool_version,
            "rules_version": rules_version,
            "trust_id": trust_id,
            "seed": seed,
            "settings": dict(settings),
        }

        def enter(connection: Connection) -> int:
            # Should the answer to a commit get lost, one empty scan too many is all that happens.
            return int(connection.execute(scan.insert().values(row).returning(scan.c.id)).scalar_one())

        return await self.run(enter)

    async def set_state(self, scan_id: int, state: str, finished_at: datetime | None = None) -> None:
        """Note that a scan is `loading`, `running`, `interrupted` or `finished`."""
        change = update(scan).where(scan.c.id == scan_id).values(state=state, finished_at=finished_at)
        await self.run(lambda connection: connection.execute(change).rowcount)

    async def drop_scan(self, scan_id: int) -> None:
        """Delete a scan with all its rows. Facts that belong to no scan stay."""
        await self.run(lambda connection: connection.execute(delete(scan).where(scan.c.id == scan_id)).rowcount)

    def scan_info(self, scan_id: int | None = None) -> ScanInfo:
        """The manifest of a scan, by default of the latest. Raises `BadDatabase` where there is none."""
        with self.reading() as connection:
            query = select(scan).order_by(scan.c.id.desc()).limit(1)
            if scan_id is not None:
                query = query.where(scan.c.id == scan_id)
            row = connection.execute(query).first()
        if row is None:
            raise BadDatabase("the database has no scan" if scan_id is None else f"there is no scan {scan_id}")
        return _scan_info(row)

    def scans(self) -> list[ScanInfo]:
        """Every scan, the oldest first."""
        with self.reading() as connection:
            return [_scan_info(row) for row in connection.execute(select(scan).order_by(scan.c.id))]

    # ---------------------------------------------------------------------------------------------- private

    def _transact(self, function: Callable[[Connection], Result], *, writes: bool = True) -> Result:
        pauses = self._pauses()
        while True:
            try:
                with self.engine.connect() as connection:
                    connection.execution_options(**{dialects.WRITES: writes})
                    with connection.begin():
                        return function(connection)
            except DBAPIError as error:
                trouble = dialects.trouble(error, self.engine)
                if trouble is not Trouble.PASSING:
                    raise _failure(trouble, error) from error
                if next(pauses, None) is None:
                    raise DatabaseGone(f"the database did not come back: {one_line(error)}") from error

    def _pauses(self) -> Iterator[float]:
        """Wait, longer each time, until patience ends; a database that is being closed gets a last moment."""
        begun = time.monotonic()
        pause = _FIRST_PAUSE
        while time.monotonic() - begun < (_LAST_MOMENT if self._closing.is_set() else self._patience):
            time.sleep(pause)
            yield pause
            pause = min(pause * 2, _LONGEST_PAUSE)


def open_database(url: str, *, create: bool = True, patience: float = PATIENCE_SECONDS) -> Database:
    """Open the database at `url`: `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/NAME`.

    With `create` a missing SQLite file or an empty PostgreSQL database gets the tables, without it that is an
    error. Tables of an older version are brought up to date. Raises `BadDatabase`, never with a password in it.
    """
    try:
        parsed = make_url(url)
        engine = dialects.make_engine(parsed, create=create)
    except BadDatabase:
        raise
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise BadDatabase(
            "the database URL cannot be read: use sqlite:///FILE or postgresql+psycopg://..."
        ) from None
    try:
        migrate.check_or_create(engine, create=create)
    except DBAPIError as error:
        engine.dispose()
        why = _REFUSALS.get(dialects.trouble(error, engine)) or one_line(error)
        raise BadDatabase(f"{shown(parsed)}: {why}") from None
    except BadDatabase as error:
        engine.dispose()
        raise BadDatabase(f"{shown(parsed)}: {error}") from None
    return Database(engine, patience=patience)


def shown(url: URL) -> str:
    """A URL for people: without its password, and without its query, which may hold others."""
    return str(url.set(query={}).render_as_string(hide_password=True))


_REFUSALS = {
    Trouble.READ_ONLY: "the database is read-only (SQLite has to write beside the file even to read it)",
    Trouble.NOT_A_DATABASE: "the file is not a database, or damaged",
    Trouble.FULL: "no room left on the disk",
}


def one_line(error: DBAPIError) -> str:
    """What the driver says, without SQL, and without the details that may quote data."""
    return (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0][:200]


def _failure(trouble: Trouble, error: DBAPIError) -> StorageFailed:
    if trouble is Trouble.FULL:
        return DiskFull("no room left on the disk of the database; what was measured before is stored")
    return StorageFailed(f"the database refused a write: {one_line(error)}")


def _scan_info(row: Row[*tuple[object, ...]]) -> ScanInfo:
    values = row._asdict()
    return ScanInfo(
        scan=values["id"],
        label=values["label"],
        started_at=values["started_at"],
        finished_at=values["finished_at"],
        state=values["state"],
        tool_version=values["tool_version"],
        rules_version=values["rules_version"],
        trust_id=values["trust_id"],
        seed=values["seed"],
        settings=values["settings"],
    )
