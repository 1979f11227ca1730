"""Writes rows of a scan, failures included, as JSON Lines, CSV or Parquet, in the columns of the contract.

JSON Lines is the exact form. CSV is for spreadsheets: lists and objects are JSON, true and false lower case, null
is empty, control characters are escaped, texts are cut at what a cell holds, and a text that starts with `=`,
`+`, `-`, `@`, tab or a line end gets an apostrophe in front, so that no spreadsheet takes it for a formula.

A file appears whole or not at all.
"""

import base64
import csv
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

from reports import parquet, partitions
from reports.as_json import time_text
from reports.text import spreadsheet
from storage.columns import COLUMNS

Row = Mapping[str, object]

_EXACT = frozenset({"der"})  # base64, of any length: of no use when cut


class BadExportError(ValueError):
    """A kind or format that does not exist, or a path that cannot be written; one line for the user."""


def export(rows: Iterable[Row], kind: str, file_format: str, path: str | Path | None = None) -> int:
    """Write `rows` and return their number; `path` None or `-` is standard output.

    A row's columns beyond the contract's are left out of CSV and kept in JSON Lines. Raises `BadExportError`.
    """
    if kind not in COLUMNS:
        raise BadExportError(f"there are no {kind!r} rows: use {', '.join(COLUMNS)}")
    if file_format not in FORMATS:
        raise BadExportError(f"there is no row format {file_format!r}: use {', '.join(FORMATS)}")
    if file_format == PARQUET:
        return _export_parquet(rows, kind, path)
    with output(path) as out:
        return WRITERS[file_format](rows, COLUMNS[kind], out)


def write_jsonl(rows: Iterable[Row], columns: tuple[str, ...], out: TextIO) -> int:
    """A JSON object a line, ASCII only: any text survives, and none of it moves a cursor."""
    count = 0
    for row in rows:
        ordered = {name: row.get(name) for name in columns} | {k: v for k, v in row.items() if k not in columns}
        out.write(json.dumps(ordered, default=_plain, separators=(",", ":"), allow_nan=False))
        out.write("\n")
        count += 1
    return count


def write_csv(rows: Iterable[Row], columns: tuple[str, ...], out: TextIO) -> int:
    """A header, then a line a row, ended by CRLF (RFC 4180)."""
    writer = csv.writer(out)
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([_cell(row.get(name), exact=name in _EXACT) for name in columns])
        count += 1
    return count


WRITERS: Mapping[str, Callable[[Iterable[Row], tuple[str, ...], TextIO], int]] = MappingProxyType(
    {"jsonl": write_jsonl, "csv": write_csv}
)


PARQUET = "parquet"
FORMATS = (*WRITERS, PARQUET)


def _export_parquet(rows: Iterable[Row], kind: str, path: str | Path | None) -> int:
    """Parquet is no stream of text: it goes to a file."""
    if path is None or str(path) == "-" or (Path(path).exists() and not Path(path).is_file()):
        raise BadExportError("parquet is written to a file: name one with --output")
    with _replacing(Path(path)) as part:
        try:
            return parquet.write(rows, COLUMNS[kind], part)
        except OSError as error:
            raise BadExportError(f"{path}: {error.strerror or error}") from None


def export_partitions(rows: Iterable[Row], kind: str, folder: str | Path | None, scan: int, day: date) -> int:
    """Write a scan's rows as Parquet below `folder`, by scan and day (`reports.partitions`); return their number.

    What that scan had there before is replaced. `day` is that of rows without a time. Raises `BadExportError`.
    """
    if folder is None or str(folder) == "-":
        raise BadExportError("partitions are written to a folder: name one with --output")
    try:
        return partitions.write(rows, COLUMNS[kind], Path(folder) / kind, scan, day)
    except partitions.NotPartitions as error:
        raise BadExportError(str(error)) from None
    except OSError as error:
        raise BadExportError(f"{folder}: {error.strerror or error}") from None


@contextmanager
def output(path: str | Path | None) -> Iterator[TextIO]:
    """Open a text file that replaces `path` when the block ends well; standard output for None or `-`.

    The new file is written beside the old one under another name. Raises `BadExportError` where that cannot be.
    """
    if path is None or str(path) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    target = Path(path)
    if target.exists() and not target.is_file():  # a device or a pipe cannot be replaced
        with _open(target, "w") as out:
            yield out
        return
    with _replacing(target) as part, _open(part, "x") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` that takes its place when the block ends well, and is gone when it does not."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _open(path: Path, mode: str) -> TextIO:
    try:
        return path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")  # type: ignore[return-value]  # text mode
    except OSError as error:
        raise BadExportError(f"{path}: {error.strerror}") from None


def _cell(value: object, *, exact: bool = False) -> object:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return value
        case str():
            if not exact:
                return spreadsheet(value)
            return f"'{value}" if value.startswith("+") else value
        case datetime() | bytes():
            return _cell(_plain(value), exact=True)
        case _:
            return json.dumps(value, default=_plain, separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return time_text(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case tuple() | set() | frozenset():
            return list(value)
        case Mapping():
            return dict(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no form in a row")
