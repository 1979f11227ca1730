"""Trust snapshots: which root is in which program, for what, until when.

A snapshot is a directory: `snapshot.toml` (what it is and as of when), `roots.csv` (one row a root, one column a
program) and `*.pem` (the certificates of the rows, and other known intermediates). It is data with a date, never
the trust store of this machine. `load` reads one and raises `BadSnapshot` with one line that names file and line.
"""

import base64
import csv
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from scanner import der
from scanner.certificates import parse
from scanner.names import attribute
from scanner.records import Certificate, Hierarchy, Program

HEADER = [
    "sha256",
    "subject",
    "not_before",
    "not_after",
    "mozilla",
    "chrome",
    "apple",
    "microsoft",
    "chrome_sct_not_after",
]
OPTIONAL = {"mozilla_server_distrust_after", "chrome_removed", "owner"}
"""Columns that may follow: when Mozilla stops trusting new server certificates of a root, when Chrome removed it,
and who owns it."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SAID_DIGEST = re.compile(r"#\s*sha256=([0-9A-Fa-f]{64})")


class BadSnapshot(ValueError):  # the message is what a person reads; Error would say nothing more
    """A trust snapshot that cannot be used; the message is one line."""


class Purpose(StrEnum):
    """What a program trusts a root for."""

    SERVER = "server"
    CLIENT = "client"
    EMAIL = "email"
    OTHER = "other"
    UNKNOWN = "unknown"  # in the store, purpose not recorded


@dataclass(frozen=True, slots=True)
class Root:
    """One row of roots.csv with its certificate.

    `purposes` has every program, with an empty set for one that does not trust the root. `owner` is the owner
    column, else the organisation of the subject, else its common name. Times are aware UTC.
    """

    certificate: Certificate
    purposes: Mapping[Program, frozenset[Purpose]]
    owner: str | None = None
    chrome_sct_not_after: datetime | None = None
    mozilla_server_distrust_after: datetime | None = None
    chrome_removed: date | None = None

    @property
    def trusted(self) -> bool:
        """Whether any program has the root for anything."""
        return any(self.purposes.values())


@dataclass(frozen=True, slots=True)
class TrustSnapshot:
    """A snapshot: roots by sha256, other known CA certificates, and where it all comes from.

    `chrome_anchors` are the sha256 of intermediates that Chrome anchors on directly; their certificates are among
    `intermediates`.
    """

    id: str
    as_of: date
    sources: Mapping[str, str]
    roots: Mapping[str, Root]
    intermediates: tuple[Certificate, ...] = ()
    chrome_anchors: frozenset[str] = frozenset()

    @property
    def measurable(self) -> frozenset[Hierarchy]:
        """The hierarchy classes that this snapshot can show; a figure reports the others as not measurable."""
        classes = set(Hierarchy)
        seen = {
            (program, use) for root in self.roots.values() for program in Program for use in root.purposes[program]
        }
        servers = {program for program, use in seen if use is Purpose.SERVER}
        if Program.CHROME not in servers and not self.chrome_anchors:
            classes.discard(Hierarchy.PUBLIC_CHROME)
        if not servers - {Program.CHROME}:
            classes.discard(Hierarchy.PUBLIC_NOT_CHROME)
        if Purpose.UNKNOWN not in {use for _, use in seen}:
            classes.discard(Hierarchy.PUBLIC_PURPOSE_UNKNOWN)
        if not any(_other_purpose(root) for root in self.roots.values()):
            classes.discard(Hierarchy.PUBLIC_OTHER_PURPOSE)
        if all(root.trusted for root in self.roots.values()):
            classes.discard(Hierarchy.DISTRUSTED)
        return frozenset(classes)


def _other_purpose(root: Root) -> bool:
    uses = frozenset().union(*root.purposes.values())
    return bool(uses) and not uses & {Purpose.SERVER, Purpose.UNKNOWN}


def bundled() -> TrustSnapshot:
    """The snapshot that comes with the program."""
    return load(resources.files("scanner") / "data" / "trust")


def load(directory: Path | Traversable) -> TrustSnapshot:
    """The snapshot in a directory; raises BadSnapshot with one line naming file and line."""
    settings = _settings(directory)
    files = {
        file.name: list(_pem(file))
        for file in sorted(_files(directory), key=lambda item: item.name)
        if file.name.endswith(".pem")
    }
    pool = {certificate.sha256: certificate for listed in files.values() for certificate in listed}
    roots = dict(_rows(directory, pool))
    return TrustSnapshot(
        id=settings.id,
        as_of=settings.as_of,
        sources=settings.sources,
        roots=roots,
        intermediates=tuple(certificate for digest, certificate in pool.items() if digest not in roots),
        chrome_anchors=_anchors(settings.chrome_anchors, files),
    )


@dataclass(frozen=True, slots=True)
class _Settings:
    id: str
    as_of: date
    sources: Mapping[str, str]
    chrome_anchors: str | None


def _files(directory: Path | Traversable) -> list[Path | Traversable]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise BadSnapshot(f"{directory}: not a trust snapshot: {error.strerror}") from error


def _text(directory: Path | Traversable, name: str) -> str:
    try:
        return (directory / name).read_text(encoding="utf-8")
    except OSError as error:
        raise BadSnapshot(f"{directory}: not a trust snapshot: {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSnapshot(f"{name}: not UTF-8 text") from error


def _settings(directory: Path | Traversable) -> _Settings:
    name = "snapshot.toml"
    try:
        values = tomllib.loads(_text(directory, name))
    except (ValueError, RecursionError) as error:  # tomllib's own, and what int and nesting say of a bad file
        raise BadSnapshot(f"{name}: {error}") from error
    identity, as_of = values.get("id"), values.get("as_of")
    sources, anchors = values.get("sources", {}), values.get("chrome_anchors")
    if not isinstance(identity, str) or not identity:
        raise BadSnapshot(f"{name}: id is missing")
    if not isinstance(sources, dict) or not all(isinstance(source, str) for source in sources.values()):
        raise BadSnapshot(f"{name}: [sources] has a line of text per column")
    if anchors is not None and not isinstance(anchors, str):
        raise BadSnapshot(f"{name}: chrome_anchors is the name of a PEM file")
    if isinstance(as_of, datetime) or not isinstance(as_of, date):
        as_of = _date(str(as_of), f"{name}: as_of")
    return _Settings(identity, as_of, sources, anchors)


def _anchors(name: str | None, files: Mapping[str, list[Certificate]]) -> frozenset[str]:
    if name is None:
        return frozenset()
    if name not in files:
        raise BadSnapshot(f"snapshot.toml: chrome_anchors: no file {name!r} in the snapshot")
    return frozenset(certificate.sha256 for certificate in files[name])


def _pem(file: Path | Traversable) -> Iterator[Certificate]:
    """The certificates of one PEM file; a `# sha256=` comment before one has to be true."""
    said: str | None = None
    block: list[str] | None = None
    began = 0
    lines = _text_of(file).splitlines()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text == _PEM_BEGIN:
            block, began = [], number
        elif text == _PEM_END and block is not None:
            yield _certificate("".join(block), said, f"{file.name}: line {began}")
            said, block = None, None
        elif block is not None:
            block.append(text)
        elif match := _SAID_DIGEST.match(text):
            said = match[1].lower()
    if block is not None:
        raise BadSnapshot(f"{file.name}: line {began}: the certificate has no end; a truncated file?")


def _text_of(file: Path | Traversable) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSnapshot(f"{file.name}: cannot be read: {error}") from error


def _certificate(block: str, said: str | None, where: str) -> Certificate:
    try:
        certificate = parse(base64.b64decode(block, validate=True))
    except ValueError as error:  # binascii.Error, or one of its own for what is not ASCII
        raise BadSnapshot(f"{where}: not base64: {error}") from error
    if not certificate.readable:
        raise BadSnapshot(f"{where}: not a certificate: {certificate.parse_error}")
    if said is not None and said != certificate.sha256:
        raise BadSnapshot(f"{where}: said to be sha256 {said}, is {certificate.sha256}")
    return certificate


def _rows(directory: Path | Traversable, pool: Mapping[str, Certificate]) -> Iterator[tuple[str, Root]]:
    try:
        yield from _read_rows(directory, pool)
    except csv.Error as error:
        raise BadSnapshot(f"roots.csv: {error}") from error


def _read_rows(directory: Path | Traversable, pool: Mapping[str, Certificate]) -> Iterator[tuple[str, Root]]:
    name = "roots.csv"
    reader = csv.DictReader(_text(directory, name).splitlines())
    header = list(reader.fieldnames or [])
    extra = header[len(HEADER) :]
    if header[: len(HEADER)] != HEADER or not set(extra) <= OPTIONAL:
        raise BadSnapshot(f"{name}: line 1: expected the header {','.join(HEADER)}, found {','.join(header)}")
    seen = set()
    for row in reader:
        where = f"{name}: line {reader.line_num}"
        if None in row or None in row.values():
            raise BadSnapshot(f"{where}: expected {len(header)} fields")
        digest = row["sha256"]
        if not _DIGEST.fullmatch(digest):
            raise BadSnapshot(f"{where}: sha256 is 64 lower-case hex digits, found {digest!r}")
        if digest in seen:
            raise BadSnapshot(f"{where}: sha256 {digest} stands twice")
        if digest not in pool:
            raise BadSnapshot(f"{where}: no certificate with sha256 {digest} in the snapshot's PEM files")
        seen.add(digest)
        yield digest, _root(row, pool[digest], where)


def _root(row: Mapping[str, str], certificate: Certificate, where: str) -> Root:
    for column in ("not_before", "not_after"):
        said, is_ = _date(row[column], f"{where}: {column}"), getattr(certificate, column).date()
        if said != is_:
            raise BadSnapshot(f"{where}: {column} is {said}, the certificate says {is_}")
    removed = row.get("chrome_removed")
    return Root(
        certificate=certificate,
        purposes={program: _purposes(row[program], f"{where}: {program}") for program in Program},
        owner=row.get("owner") or subject_owner(certificate),
        chrome_sct_not_after=_moment(row["chrome_sct_not_after"], f"{where}: chrome_sct_not_after"),
        mozilla_server_distrust_after=_moment(
            row.get("mozilla_server_distrust_after", ""), f"{where}: mozilla_server_distrust_after"
        ),
        chrome_removed=_date(removed, f"{where}: chrome_removed") if removed else None,
    )


def subject_owner(certificate: Certificate) -> str | None:
    """The organisation of a CA certificate's subject, else its common name; None where it has neither."""
    subject = der.split_certificate(certificate.der).subject
    return attribute(subject, "2.5.4.10") or attribute(subject, "2.5.4.3")


def _purposes(words: str, where: str) -> frozenset[Purpose]:
    found = []
    for word in filter(None, words.split(";")):
        try:
            found.append(Purpose(word))
        except ValueError as error:
            known = ", ".join(Purpose)
            raise BadSnapshot(f"{where}: unknown purpose {word!r}; known are {known}") from error
    return frozenset(found)


def _date(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadSnapshot(f"{where}: not a date YYYY-MM-DD: {text!r}") from error


def _moment(text: str, where: str) -> datetime | None:
    """A time of RFC 3339, or a date that means its end; None for an empty field."""
    if not text:
        return None
    try:
        if len(text) == 10:
            return datetime.fromisoformat(text).replace(hour=23, minute=59, second=59, tzinfo=UTC)
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise BadSnapshot(f"{where}: not a time YYYY-MM-DDTHH:MM:SSZ: {text!r}") from error
