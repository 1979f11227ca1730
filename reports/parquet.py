"""Writes rows of a scan as Parquet: typed columns, lists as lists, times as timestamps, some thousand rows at once.

PyArrow does it; it is the extra `parquet`.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

Row = Mapping[str, object]

BATCH = 5_000
"""Rows that are held, and written as a row group, together."""

TIMES = frozenset({"started_at", "not_before", "not_after"})
LISTS = frozenset(
    {
        *("ehlo_keywords", "certificate_list", "programs", "client_ca_names", "dns_names", "eku_oids"),
        *(
            "programs_unknown",
            "client_certificate_types",
            "client_signature_algorithms",
            "addresses",
            "notes",
            "records",
        ),
    }
)
BOOLEANS = frozenset(
    {
        *("authenticated", "starttls_offered", "injected_plaintext", "chain_complete", "name_match", "expired"),
        *("email", "chrome_estimated", "self_signed"),
    }
)
INTEGERS = frozenset({"port", "attempt", "reply_code", "duration_ms", "key_bits", "preference"})
MX = ("preference", "host", "addresses", "rcode_a", "rcode_aaaa", "authenticated", "notes", "tlsa")
TLSA = ("base", "rcode", "authenticated", "records")


class NoParquet(ValueError):
    """The extra `parquet` is not installed; the message is one line."""


def write(rows: Iterable[Row], columns: tuple[str, ...], path: Path) -> int:
    """Write rows to a new file at `path` and return their number. Raises `NoParquet`, OSError."""
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(name, _type(arrow, name)) for name in columns])
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            values = {name: [_value(name, row.get(name)) for row in batch] for name in columns}
            writer.write_table(arrow.table(values, schema=schema))
            count += len(batch)
    return count


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    return iter(lambda: list(islice(iterator, BATCH)), [])


def _type(arrow: Any, name: str) -> Any:
    """The type of a column, text where nothing else is said."""
    if name == "mx":
        return arrow.list_(arrow.struct([(field, _type(arrow, field)) for field in MX]))
    if name == "tlsa":
        return arrow.struct([(field, _type(arrow, field)) for field in TLSA])
    kinds: tuple[tuple[frozenset[str], Callable[[], Any]], ...] = (
        (TIMES, lambda: arrow.timestamp("us", tz="UTC")),
        (LISTS, lambda: arrow.list_(arrow.string())),
        (BOOLEANS, arrow.bool_),
        (INTEGERS, arrow.int64),
        (frozenset({"weight"}), arrow.float64),
        (frozenset({"der"}), arrow.binary),
    )
    return next((make() for names, make in kinds if name in names), arrow.string())


def _value(name: str, value: object) -> object:
    if isinstance(value, str):
        if name in TIMES:
            return datetime.fromisoformat(value)
        if name == "der":
            return base64.b64decode(value)
        return value.encode(errors="backslashreplace").decode()  # a lone surrogate is no text
    if isinstance(value, list | tuple):
        return [_value(name, item) for item in value]
    if isinstance(value, Mapping):
        return {field: _value(field, value.get(field)) for field in (MX if name == "mx" else TLSA)}
    return value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: ICN001, PLC0415  # an extra, and without types
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise NoParquet("Parquet needs the extra `parquet`: pip install 'mxcensus[parquet]'") from None
    return pyarrow, parquet
