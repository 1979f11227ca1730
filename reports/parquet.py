"""Writes rows of a scan as Parquet: typed columns, lists as lists, times as timestamps, some thousand rows at once.

PyArrow does it; it is the extra `parquet`.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

Row = Mapping[str, object]

BATCH = 5_000
"""Rows that are held, and written as a row group, together."""

STRUCTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mx": ("preference", "host", "addresses", "rcode_a", "rcode_aaaa", "authenticated", "notes", "tlsa"),
        "mx.tlsa": ("base", "rcode", "authenticated", "records"),
        "mta_sts_record": ("record", "rcode", "id", "text"),
        "mta_sts_policy": (
            *("failure", "detail", "address", "status", "mode", "max_age", "mx", "unmatched", "fetched_at"),
        ),
    }
)
"""Columns that have fields; the path of a field is its column's, a point, its name. `mx` is a list of them."""

TIMES = frozenset({"started_at", "not_before", "not_after", "mta_sts_policy.fetched_at"})
LISTS = frozenset(
    {
        *("ehlo_keywords", "certificate_list", "programs", "client_ca_names", "dns_names", "eku_oids"),
        *("programs_unknown", "client_certificate_types", "client_signature_algorithms"),
        *("mx.addresses", "mx.notes", "mx.tlsa.records", "mta_sts_policy.mx", "mta_sts_policy.unmatched"),
    }
)
BOOLEANS = frozenset(
    {
        *("authenticated", "starttls_offered", "injected_plaintext", "chain_complete", "name_match", "expired"),
        *("email", "chrome_estimated", "self_signed", "mx.authenticated", "mx.tlsa.authenticated"),
    }
)
INTEGERS = frozenset(
    {
        *("port", "attempt", "reply_code", "duration_ms", "key_bits", "mx.preference"),
        *("mta_sts_policy.status", "mta_sts_policy.max_age"),
    }
)


class NoParquet(ValueError):
    """The extra `parquet` is not installed; the message is one line."""


def write(rows: Iterable[Row], columns: tuple[str, ...], path: Path) -> int:
    """Write rows to a new file at `path` and return their number. Raises `NoParquet`, OSError."""
    iterator, count = iter(rows), 0
    with closing(File(path, columns)) as file:
        while batch := list(islice(iterator, BATCH)):
            file.write(batch)
            count += len(batch)
    return count


class File:
    """A Parquet file that grows by row groups; whole once closed. Raises `NoParquet`, OSError."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._arrow, parquet = _pyarrow()
        self._columns = columns
        self._schema = self._arrow.schema([(name, _type(self._arrow, name)) for name in columns])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        """Write `rows`, at most `BATCH` or so, as one row group."""
        values = {name: [_value(name, row.get(name)) for row in rows] for name in self._columns}
        self._writer.write_table(self._arrow.table(values, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _type(arrow: Any, path: str) -> Any:
    """The type of a column or field, text where nothing else is said."""
    if path in STRUCTS:
        fields = arrow.struct([(field, _type(arrow, f"{path}.{field}")) for field in STRUCTS[path]])
        return arrow.list_(fields) if path == "mx" else fields
    kinds: tuple[tuple[frozenset[str], Callable[[], Any]], ...] = (
        (TIMES, lambda: arrow.timestamp("us", tz="UTC")),
        (LISTS, lambda: arrow.list_(arrow.string())),
        (BOOLEANS, arrow.bool_),
        (INTEGERS, arrow.int64),
        (frozenset({"weight"}), arrow.float64),
        (frozenset({"der"}), arrow.binary),
    )
    return next((make() for paths, make in kinds if path in paths), arrow.string())


def _value(path: str, value: object) -> object:
    if isinstance(value, str):
        if path in TIMES:
            return datetime.fromisoformat(value)
        if path == "der":
            return base64.b64decode(value)
        return value.encode(errors="backslashreplace").decode()  # a lone surrogate is no text
    if isinstance(value, list | tuple):
        return [_value(path, item) for item in value]
    if isinstance(value, Mapping):
        return {field: _value(f"{path}.{field}", value.get(field)) for field in STRUCTS[path]}
    return value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: ICN001, PLC0415  # an extra, and without types
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise NoParquet("Parquet needs the extra `parquet`: pip install 'mxcensus[parquet]'") from None
    return pyarrow, parquet
