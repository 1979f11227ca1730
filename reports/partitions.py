"""Writes rows of a scan as Parquet in Hive's layout, by scan and day: `scan=1/day=2026-11-24/part-00000.parquet`.

DuckDB, Spark and BigQuery read such a folder as one table with the columns `scan` and `day`, and open only the
files that a condition on these asks for. Scan by scan the table grows; a scan that is written again is replaced.
"""

import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from reports.parquet import BATCH, File

Row = Mapping[str, object]

ROWS_A_FILE = 1_000_000
"""Files of some hundred MB at most: what several readers can share."""

MOST_OPEN = 200
MOST_HELD = 4 * BATCH


class NotPartitions(ValueError):
    """What would be replaced holds something else; the message is one line."""


def write(rows: Iterable[Row], columns: tuple[str, ...], folder: Path, scan: int, day: date) -> int:
    """Write rows below `folder`/scan=`scan` in the place of what was there, and return their number.

    A row belongs to the day (UTC) on which its session began (`started_at`); a row without one, as of an endpoint
    that was not tested, of a domain or a certificate, to `day`, on which the scan began. Whatever fails, the old
    files stay. Raises `NotPartitions`, `NoParquet`, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with _replacing(folder / f"scan={scan}") as place:
        days = _Days(place, columns)
        try:
            for row in rows:
                days.add(_day(row) or day.isoformat(), row)
                count += 1
            if not count:
                days.add(day.isoformat())  # no rows, but columns: a reader finds an empty table, not an error
        finally:
            days.close()
    return count


def _day(row: Row) -> str:
    """`started_at` is RFC 3339 in UTC, so it begins with the day."""
    return str(row.get("started_at") or "")[:10]


class _Days:
    """The files that grow, one a day; rows wait until thousands are held, and then those of the fullest day go."""

    def __init__(self, place: Path, columns: tuple[str, ...]) -> None:
        self._place, self._columns = place, columns
        self._waiting: defaultdict[str, list[Row]] = defaultdict(list)
        self._held = 0
        self._files: dict[str, tuple[File, int]] = {}  # with its rows; the last used stands last
        self._parts: defaultdict[str, int] = defaultdict(int)

    def add(self, day: str, *rows: Row) -> None:
        self._waiting[day].extend(rows)
        self._held += len(rows)
        if len(self._waiting[day]) >= BATCH:
            self._flush(day)
        elif self._held >= MOST_HELD:
            self._flush(max(self._waiting, key=lambda one: len(self._waiting[one])))

    def close(self) -> None:
        for day in list(self._waiting):
            self._flush(day)
        for day in list(self._files):
            self._end(day)

    def _flush(self, day: str) -> None:
        rows = self._waiting.pop(day)
        self._held -= len(rows)
        file, written = self._files.pop(day) if day in self._files else (self._begin(day), 0)
        self._files[day] = (file, written + len(rows))
        file.write(rows)
        if written + len(rows) >= ROWS_A_FILE:
            self._end(day)

    def _begin(self, day: str) -> File:
        if len(self._files) >= MOST_OPEN:
            self._end(next(iter(self._files)))
        path = self._place / f"day={day}" / f"part-{self._parts[day]:05}.parquet"
        self._parts[day] += 1
        path.parent.mkdir(exist_ok=True)
        return File(path, self._columns)

    def _end(self, day: str) -> None:
        file, _ = self._files.pop(day)
        file.close()


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A folder that takes the place of `target` when the block ends well, and is gone when it does not.

    It grows outside the table's folder, so that nobody reads half of it, even when this process is killed.
    """
    _check(target)
    name = f".{target.parent.name}.{target.name}.{secrets.token_hex(4)}"
    part, old = (target.parent.with_name(f"{name}.{end}") for end in ("part", "old"))
    part.mkdir()
    try:
        yield part
        if target.exists():
            target.rename(old)
        try:
            part.rename(target)
        except OSError:
            old.rename(target)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check(target: Path) -> None:
    """Nothing but what this module writes is ever removed."""
    if target.exists() and not target.is_dir():
        raise NotPartitions(f"{target} is not a folder")
    for path in target.rglob("*"):
        level = len(path.relative_to(target).parts)
        ours = path.is_dir() if level == 1 else (level, path.suffix) == (2, ".parquet")
        if path.is_symlink() or not ours:
            raise NotPartitions(f"{path} is no partition of an export: remove it, or choose another folder")
