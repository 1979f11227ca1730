"""The tasks of one phase that are under way, and its loop's rest between two looks at the pacer."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

IDLE_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""How long sessions under way may take to say QUIT once a scan is told to stop."""


class InFlight:
    """Tasks in a task group; `clock` gives seconds since the epoch, as the pacer counts them."""

    def __init__(self, group: asyncio.TaskGroup, stop: asyncio.Event, clock: Callable[[], float]) -> None:
        self._group = group
        self._stop = stop
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._watch = group.create_task(self._wake_on_stop())

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, attempt: Coroutine[Any, Any, None]) -> None:
        """Begin a task; its end wakes the loop."""
        task = self._group.create_task(attempt)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def sleep_until(self, wake_at: float | None) -> None:
        """Until a task ends or the pacer may have something; never longer than a second, clocks can jump."""
        pause = IDLE_SECONDS if wake_at is None else min(IDLE_SECONDS, wake_at - self._clock())
        if pause > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)
        else:
            await asyncio.sleep(0)
        self._woken.clear()

    async def wind_up(self) -> None:
        """Let tasks under way end by themselves for a moment, then cut them off."""
        self._watch.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()

    async def _wake_on_stop(self) -> None:
        await self._stop.wait()
        self._woken.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()
