"""Takes the records of a scan and stores them: batched, each batch one transaction, off the event loop.

`write` only appends to a list. One task takes batches from it: records become rows in one thread while the
database's writer thread stores the batch before. A batch has at most `BATCH` records, so that a claim never waits
long behind it, and none is older than `MOST_SECONDS`. When the database cannot follow, or is away, `write` waits.
What was given up is raised by every later call.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from scanner.records import Observation
from storage.database import Database
from storage.store import Batch, Meaning, Store, Stored, write

BATCH = 1000
BUFFER = 10_000
MOST_SECONDS = 0.5


class Writer:
    """Stores records in the scan `scan_id`; made and used inside one event loop."""

    def __init__(
        self,
        database: Database,
        scan_id: int,
        *,
        seed: int,
        operator_of: Callable[[str], str],
        software_of: Callable[[Observation], str | None],
        ca_name_text: Callable[[bytes], str],
    ) -> None:
        self._database = database
        self._store = Store(scan_id, seed, Meaning(operator_of, software_of, ca_name_text))
        self._buffer: list[Stored] = []
        self._accepted = self._wanted = self._taken = self._written = 0  # counts of records
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._moved = asyncio.Condition()
        self._failure: BaseException | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def flush(self, *, hurry: bool = True) -> None:
        """Return when everything accepted before is committed; without `hurry` when it would be anyway."""
        until = self._accepted
        if hurry:
            self._demand()
        async with self._moved:
            await self._moved.wait_for(lambda: self._written >= until or self._failure is not None)
        self._check()

    async def close(self) -> None:
        """Store what was accepted, and end. Raises `StorageFailed` if that was given up."""
        self._closing = True
        self._wake.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        self._check()

    async def write(self, record: Stored) -> None:
        """Accept a record; it is stored within about a second. Raises `StorageFailed` if a write was given up."""
        self._check()
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        self._buffer.append(record)
        self._accepted += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MOST_SECONDS, self._demand)
        if len(self._buffer) >= BATCH:
            self._wake.set()
            if len(self._buffer) >= BUFFER:
                async with self._moved:
                    await self._moved.wait_for(lambda: len(self._buffer) < BUFFER or self._failure is not None)

    def _demand(self) -> None:
        """Everything accepted so far is to be written now."""
        self._timer = None
        self._wanted = self._accepted
        self._wake.set()

    async def _drain(self) -> None:
        writing: asyncio.Task[None] | None = None
        while await self._has_batch():
            records, self._buffer = self._buffer[:BATCH], self._buffer[BATCH:]
            preparing = asyncio.create_task(asyncio.to_thread(self._store.prepare, records))
            if writing is not None:
                await writing
            writing = asyncio.create_task(self._write(preparing, len(records)))
        if writing is not None:
            await writing

    async def _has_batch(self) -> bool:
        """Wait until there is something to write now; False once there never will be."""
        while self._failure is None and not self._closing:
            if len(self._buffer) >= BATCH or (self._buffer and self._taken < self._wanted):
                break
            self._wake.clear()
            await self._wake.wait()
        self._taken += min(len(self._buffer), BATCH)
        return bool(self._buffer) and self._failure is None

    async def _write(self, preparing: asyncio.Task[Batch], records: int) -> None:
        try:
            batch = await preparing
            if self._failure is None:
                await self._database.run(partial(write, batch=batch))
                self._written += records
        except Exception as error:  # noqa: BLE001  # whatever it was, it is raised to whoever writes
            self._failure = error
            self._wake.set()
        await self._notify()

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
