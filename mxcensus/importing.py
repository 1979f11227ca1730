"""The composition root of `mxcensus import`: files in, a census of its own out.

Entries are stored a batch at a time, in the order of the files, so a million lines cost the memory of a batch. What
cannot be read is said and left out; what can be is stored.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from mxcensus import __version__, classification
from mxcensus.steps import now
from scanner import certificates, names, operators, policy, software
from scanner.inputs import (
    BadInput,
    Entry,
    Skipped,
    SourcedCertificate,
    SourcedDigest,
    SourcedObservation,
    read_entries,
)
from scanner.records import MxHost, Role, Sighting
from scanner.trust import TrustSnapshot
from storage.database import Database
from storage.store import Meaning, Store, Stored, write

BATCH = 1000
KNOWN = 100_000
"""How many certificates are remembered as read, so that one that comes often is parsed once."""


@dataclass(slots=True)
class Imported:
    """What one import did; `certificates` were parsed, each once as long as it was remembered."""

    scan: int
    entries: int = 0
    sightings: int = 0
    observations: int = 0
    certificates: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What to import and how: `role` and `day` are for entries that do not say."""

    paths: Sequence[Path]
    role: Role
    day: date | None
    label: str | None


class NothingImported(ValueError):
    """No entry could be used; the message is one line."""


def run(database: Database, trust: TrustSnapshot, order: Order, skipped: Skipped) -> Imported:
    """Import, and classify as a scan is. Raises `BadInput` before anything is stored, where a path is missing."""
    for path in order.paths:
        if not path.exists():
            raise BadInput(f"{path}: no such file or directory")
    begin = now() if order.day is None else datetime.combine(order.day, time(), UTC)
    scan = asyncio.run(_begin(database, trust, order, begin))
    imported = Imported(scan)
    try:
        _store(database, order, imported, _counting(imported, skipped))
    except KeyboardInterrupt:
        asyncio.run(database.set_state(scan, "interrupted", now()))
        raise
    if not imported.entries:
        asyncio.run(database.drop_scan(scan))
        raise NothingImported("nothing was imported")
    classification.classify_scan(database, scan, trust)
    asyncio.run(database.set_state(scan, "finished", now()))
    return imported


async def _begin(database: Database, trust: TrustSnapshot, order: Order, begin: datetime) -> int:
    return await database.new_scan(
        label=order.label or "import",
        started_at=begin,
        tool_version=__version__,
        rules_version=policy.RULES_VERSION,
        trust_id=trust.id,
        seed=0,
        settings={"kind": "import", "files": [path.name for path in order.paths], "role": order.role.value},
    )


def _counting(imported: Imported, skipped: Skipped) -> Skipped:
    def skip(where: str, why: str) -> None:
        imported.skipped += 1
        skipped(where, why)

    return skip


def _store(database: Database, order: Order, imported: Imported, skipped: Skipped) -> None:
    store = Store(
        imported.scan,
        0,
        Meaning(operators.operator, software.of_observation, names.name_text),
    )
    records = _records(_entries(order.paths, skipped), order, imported)
    while batch := list(islice(records, BATCH)):
        database.write(partial(write, batch=store.prepare(batch)))


def _entries(paths: Iterable[Path], skipped: Skipped) -> Iterator[Entry]:
    """The entries of all files; one that breaks off, or has none, is said and left."""
    for path in paths:
        try:
            yield from read_entries(path, skipped)
        except BadInput as error:
            where, _, why = str(error).rpartition(": ")
            skipped(where or str(path), why)


def _records(entries: Iterator[Entry], order: Order, imported: Imported) -> Iterator[Stored]:
    reader = _Reader(order, imported)
    # One line of JSON may hold a whole list, whose certificates come one after another.
    for _, group in groupby(entries, lambda entry: entry.source):
        imported.entries += 1
        first, *others = group
        if isinstance(first, SourcedObservation):
            for entry in (first, *others):
                if isinstance(entry, SourcedObservation):
                    yield from reader.observed(entry)
        elif isinstance(first, SourcedDigest):
            yield reader.sighting(first, (first.sha256,), first.role or order.role)
        else:
            yield from reader.sighted(first, [one for one in others if isinstance(one, SourcedCertificate)])


class _Reader:
    """Entries to records, each certificate parsed once as long as it is remembered."""

    def __init__(self, order: Order, imported: Imported) -> None:
        self._order = order
        self._imported = imported
        self._ca: dict[str, bool] = {}  # digest -> whether it is a CA's

    def observed(self, entry: SourcedObservation) -> Iterator[Stored]:
        observation = entry.observation
        self._imported.observations += 1
        for der in observation.certificate_list:
            yield from self._certificate(der, hashlib.sha256(der).hexdigest())
        host = observation.endpoint.mx_host
        yield MxHost(0, host, (observation.endpoint.address,))
        yield observation

    def sighted(self, entry: SourcedCertificate, others: Sequence[SourcedCertificate]) -> Iterator[Stored]:
        digests = tuple(hashlib.sha256(one.der).hexdigest() for one in (entry, *others))
        for digest, one in zip(digests, (entry, *others), strict=True):
            yield from self._certificate(one.der, digest)
        is_ca = self._ca[digests[0]]
        # Whoever keeps certificates in files keeps issuers beside them; a line that names a role means it.
        yield self.sighting(entry, digests, entry.role or (Role.CA if is_ca else self._order.role))

    def sighting(self, entry: SourcedCertificate | SourcedDigest, listed: tuple[str, ...], role: Role) -> Sighting:
        self._imported.sightings += role is not Role.CA
        return Sighting(
            self._imported.entries,
            role,
            listed,
            count=entry.count,
            operator=entry.operator,
            day=entry.day or self._order.day,
            required=entry.required,
        )

    def _certificate(self, der: bytes, digest: str) -> Iterator[Stored]:
        if digest in self._ca:
            return
        record = certificates.parse(der)
        self._imported.certificates += 1
        self._ca[digest] = record.is_ca
        if len(self._ca) > KNOWN:
            del self._ca[next(iter(self._ca))]
        yield record
