"""Stores what a classification pass found about a scan, whole or not at all.

What is found goes to a temporary file first, without a transaction, since a pass over a million certificates takes
minutes. Then one transaction puts it in the place of what was there. So memory does not grow with the scan, and
whoever is interrupted, or reads meanwhile, has the old classification whole.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO

from sqlalchemy import Connection, Table, delete, select, update

from scanner.policy_records import DaneVerdict, StsVerdict
from scanner.records import CaNamesVerdict, Classification, Program
from storage.database import Database
from storage.dialects import Columns, upsert
from storage.rows import Row
from storage.schema import (
    ca_names_verdict,
    classification,
    dane_verdict,
    list_classification,
    scan,
    sts_verdict,
)

BATCH = 2000
_TABLES = (classification, list_classification, dane_verdict, ca_names_verdict, sts_verdict)


@dataclass(frozen=True, slots=True)
class Basis:
    """Under what a scan is classified: rules, snapshot, and what a report says of the snapshot (JSON values)."""

    rules_version: str
    trust_id: str | None
    trust: Mapping[str, object]


def replace_classifications(
    database: Database,
    scan_id: int,
    basis: Basis,
    certificates: Iterable[Classification],
    lists: Iterable[tuple[str, bool]] = (),
    verdicts: Iterable[DaneVerdict] = (),
    asked: Iterable[CaNamesVerdict] = (),
    sts: Iterable[StsVerdict] = (),
) -> None:
    """Store these classifications of a scan instead of all that it had, and note in the scan under what.

    `lists` has the digest of each certificate_list and whether it is complete, `verdicts` what TLSA records say of
    lists, `asked` whose CAs were named in requests, `sts` what MTA-STS comes to for domains. All may read from the
    database meanwhile; of two of one thing the later one holds.
    """
    rows = (
        (_row(scan_id, item) for item in certificates),
        ({"scan_id": scan_id, "list_sha256": digest, "chain_complete": complete} for digest, complete in lists),
        (_verdict_row(scan_id, item) for item in verdicts),
        (_asked_row(scan_id, item) for item in asked),
        (_sts_row(scan_id, item) for item in sts),
    )
    with tempfile.TemporaryFile("w+", encoding="ascii") as file:
        for number, found in enumerate(rows):
            while batch := list(islice(found, BATCH)):
                file.write(json.dumps([number, [list(row.values()) for row in batch]]))
                file.write("\n")
        database.write(lambda connection: _replace(connection, scan_id, basis, file))


def _everything(new: Columns) -> Columns:
    return new


def _replace(connection: Connection, scan_id: int, basis: Basis, file: IO[str]) -> None:
    for table in _TABLES:
        connection.execute(delete(table).where(table.c.scan_id == scan_id))
    for table, rows in _read(file):
        upsert(connection, table, rows, _everything)
    settings = connection.execute(select(scan.c.settings).where(scan.c.id == scan_id)).scalar_one()
    connection.execute(
        update(scan)
        .where(scan.c.id == scan_id)
        .values(
            rules_version=basis.rules_version,
            trust_id=basis.trust_id,
            settings={**settings, "trust": dict(basis.trust)},
        )
    )


def _read(file: IO[str]) -> Iterator[tuple[Table, list[Row]]]:
    """The batches from the start, without a key twice in one; a transaction may need them again."""
    file.seek(0)
    for line in file:
        number, batch = json.loads(line)
        names = [column.name for column in _TABLES[number].columns]
        key = len(_TABLES[number].primary_key)
        distinct = {tuple(values[:key]): dict(zip(names, values, strict=True)) for values in batch}
        yield _TABLES[number], list(distinct.values())


def programs_text(programs: Sequence[Program]) -> str:
    """Programs as stored: sorted, joined by "+"."""
    return "+".join(sorted(programs))


def programs_of(text: str | None) -> list[str] | None:
    """What `programs_text` was given; None where there is no classification."""
    return None if text is None else [name for name in text.split("+") if name]


def _verdict_row(scan_id: int, item: DaneVerdict) -> Row:
    """The columns of `dane_verdict`, in the order of the table."""
    return {
        "scan_id": scan_id,
        "mx_host": item.mx_host,  # as stored
        "list_sha256": item.list_sha256,
        "dane": item.dane.value,
        "record": item.record,
    }


def _asked_row(scan_id: int, item: CaNamesVerdict) -> Row:
    """The columns of `ca_names_verdict`, in the order of the table."""
    return {
        "scan_id": scan_id,
        "ca_names_sha256": item.ca_names_sha256,
        "list_sha256": item.list_sha256,
        "names_class": item.names_class.value,
    }


def _sts_row(scan_id: int, item: StsVerdict) -> Row:
    """The columns of `sts_verdict`, in the order of the table."""
    return {
        "scan_id": scan_id,
        "domain": item.domain,
        "mta_sts": item.mta_sts.value,
        "unmatched": list(item.unmatched),
    }


def _row(scan_id: int, item: Classification) -> Row:
    """The columns of `classification`, in the order of the table."""
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
        "exposure": item.exposure,
        "issued_since": item.issued_since,
        "expires_since": item.expires_since,
        "issuer_key": item.issuer_key,
    }
