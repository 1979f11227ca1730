"""Shows how a scan gets on: a bar with rate and ETA on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from scanner.scan import Progress

PLAIN_SECONDS = 10.0
LABELS = {
    "route": "resolving",
    "select": "choosing endpoints",
    "probe": "probing",
    "policies": "fetching policies",
    "classify": "classifying",
}


class Display:
    """`update` may be called as often as one likes; everything goes to standard error."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._said_at = 0.0
        self._bar: Bar | None = None
        self._tasks: dict[str, int] = {}
        self._phase_began: dict[str, float] = {}

    @contextmanager
    def showing(self) -> Iterator[None]:
        if self._plain:
            yield
            return
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        with self._bar:
            yield
        self._bar = None

    def update(self, progress: Progress, totals: dict[str, int]) -> None:
        """`totals` gives the domains and endpoints of the whole scan, as far as they are known."""
        phase = progress.phase
        done = {"route": progress.domains, "probe": progress.endpoints}.get(phase, 0)
        total = {"route": totals.get("domains"), "probe": totals.get("endpoints")}.get(phase)
        note = f"{progress.in_flight} in flight" if phase == "probe" else ""
        rate = f"{self._rate(phase, done):.1f}/s"
        if self._bar is not None:
            if phase not in self._tasks:
                for task in self._tasks.values():
                    self._bar.stop_task(task)  # type: ignore[arg-type]  # rich's TaskID is a NewType of int
                self._tasks[phase] = self._bar.add_task(LABELS[phase], total=total, note=note, rate=rate)
            self._bar.update(self._tasks[phase], completed=done, total=total, note=note, rate=rate)  # type: ignore[arg-type]
        elif time.monotonic() - self._said_at >= PLAIN_SECONDS:
            if self._said_at:
                of = f" of {total}" if total is not None else ""
                print(f"mxcensus: {LABELS[phase]}: {done}{of} {rate} {note}".rstrip(), file=sys.stderr)
            self._said_at = time.monotonic()

    def _rate(self, phase: str, done: int) -> float:
        """How many a second since the phase began."""
        began = self._phase_began.setdefault(phase, time.monotonic())
        return done / max(time.monotonic() - began, 0.001)
