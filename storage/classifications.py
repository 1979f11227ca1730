"""Stores what a classification pass found, in batches; what an earlier pass found is replaced row by row."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from sqlalchemy import Table

from scanner.records import Classification, Program
from storage.database import Database
from storage.dialects import Columns, upsert
from storage.rows import Row
from storage.schema import classification, list_classification

BATCH = 2000


def write_classifications(database: Database, scan_id: int, found: Iterable[Classification]) -> None:
    """Store the classifications of a scan's certificates. `found` may read from the database meanwhile."""
    _write(database, classification, (_row(scan_id, item) for item in found))


def write_list_classifications(database: Database, scan_id: int, found: Iterable[tuple[str, bool]]) -> None:
    """Store whether each certificate_list, by its digest, is complete."""
    _write(
        database,
        list_classification,
        ({"scan_id": scan_id, "list_sha256": digest, "chain_complete": complete} for digest, complete in found),
    )


def programs_text(programs: Sequence[Program]) -> str:
    """Programs as stored: sorted, joined by "+"."""
    return "+".join(sorted(programs))


def programs_of(text: str | None) -> list[str] | None:
    """What `programs_text` was given; None where there is no classification."""
    return None if text is None else [name for name in text.split("+") if name]


def _row(scan_id: int, item: Classification) -> Row:
    return {
        "scan_id": scan_id,
        "sha256": item.sha256,
        "eku_class": item.eku_class.value,
        "effective_eku_class": item.effective_eku_class.value,
        "hierarchy": item.hierarchy.value,
        "programs": programs_text(item.programs),
        "programs_unknown": programs_text(item.programs_unknown),
        "chrome_estimated": item.chrome_estimated,
        "chrome_absence": item.chrome_absence,
        "self_signed": item.self_signed,
        "subclass": item.subclass,
        "ca_owner": item.ca_owner,
    }


def _write(database: Database, table: Table, rows: Iterator[Row]) -> None:
    key = [column.name for column in table.primary_key]

    def replaced(new: Columns) -> Columns:
        return {name: column for name, column in new.items() if name not in key}

    while batch := list(islice(rows, BATCH)):
        distinct = {tuple(row[name] for name in key): row for row in batch}
        database.write(partial(upsert, table=table, rows=list(distinct.values()), update=replaced))
