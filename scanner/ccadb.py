"""Reads CCADB's public reports (CSV): included roots with their purposes, all CA certificates, their PEM.

A report is read by the names of its columns: one that is missing, a status that is not known, a row that is too
short, a certificate that is not the one of its fingerprint raise `BadReport` with one line that names file and
line. Columns beyond those that are needed may come and go.
"""

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from scanner.records import Program
from scanner.trust import Purpose

INCLUDED = "AllIncludedRootCertsCSV"
RECORDS = "AllCertificateRecordsCSVFormatV5"
PEMS = "AllCertificatePEMsCSVFormat?NotBeforeYear={year}"

_FINGERPRINT = "SHA-256 Fingerprint"
_PEM = "X.509 Certificate (PEM)"
_PROGRAMS: Mapping[Program, tuple[str, str | None]] = MappingProxyType(
    {
        Program.MOZILLA: ("Mozilla Status", "Mozilla Trust Bits"),
        Program.CHROME: ("Google Chrome Status", None),
        Program.APPLE: ("Apple Status", "Apple Trust Bits"),
        Program.MICROSOFT: ("Microsoft Status", "Microsoft EKUs For DTBs"),
    }
)
"""Columns of each program's status and trust bits; Chrome trusts for TLS servers only."""

_TRUSTED = {"Included": True, "NotBefore": None}
_NOT_TRUSTED = {"", "Not Included", "Not Yet Included", "Removed", "Disabled", "Blocked"}
_PURPOSES: Mapping[str, frozenset[Purpose]] = MappingProxyType(
    {
        "Websites": frozenset({Purpose.SERVER}),
        "TLS Server": frozenset({Purpose.SERVER}),
        "Server Authentication": frozenset({Purpose.SERVER}),
        "TLS Client": frozenset({Purpose.CLIENT}),
        "Client Authentication": frozenset({Purpose.CLIENT}),
        "Legacy TLS": frozenset({Purpose.SERVER, Purpose.CLIENT}),
        "Email": frozenset({Purpose.EMAIL}),
        "Secure Email": frozenset({Purpose.EMAIL}),
    }
)
"""What trust bits mean here; every other bit is `other`."""

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_ARMOUR = re.compile(r"'?-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*'?")


class BadReport(ValueError):
    """A report that cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class IncludedRoot:
    """One root of the report of included roots; `purposes` has every program, an empty set where not trusted."""

    sha256: str
    owner: str
    name: str
    purposes: Mapping[Program, frozenset[Purpose]]


@dataclass(frozen=True, slots=True)
class CaRecord:
    """One CA certificate of the report of all records."""

    sha256: str
    owner: str
    intermediate: bool
    tls_capable: bool


def read_included(text: str, source: str) -> Iterator[IncludedRoot]:
    """Every root of `AllIncludedRootCertsCSV`.

    A program's `NotBefore` trusts certificates up to a date that the report does not give: purpose `unknown`.
    """
    columns = ("CA Owner", "Certificate Name", *(name for pair in _PROGRAMS.values() for name in pair if name))
    for row, where in _rows(text, source, (_FINGERPRINT, *columns)):
        purposes = {program: _purposes(row, *names, where) for program, names in _PROGRAMS.items()}
        yield IncludedRoot(
            _digest(row, where), row["CA Owner"], row["Certificate Name"], MappingProxyType(purposes)
        )


def read_records(text: str, source: str) -> Iterator[CaRecord]:
    """Every certificate of `AllCertificateRecordsCSVFormatV5`."""
    kinds = {"Root Certificate": False, "Intermediate Certificate": True}
    for row, where in _rows(text, source, (_FINGERPRINT, "CA Owner", "Certificate Record Type", "TLS Capable")):
        kind, capable = row["Certificate Record Type"], row["TLS Capable"]
        if kind not in kinds:
            raise BadReport(f"{where}: Certificate Record Type: not known: {kind[:80]!r}")
        if capable not in ("True", "False"):
            raise BadReport(f"{where}: TLS Capable: not True or False: {capable[:80]!r}")
        if row[_FINGERPRINT]:  # some old records have no certificate
            yield CaRecord(_digest(row, where), row["CA Owner"], kinds[kind], capable == "True")


def read_pems(text: str, source: str) -> Iterator[tuple[str, bytes]]:
    """Fingerprint and DER of every certificate of `AllCertificatePEMsCSVFormat`; an empty report has none."""
    if not text.strip():
        return
    for row, where in _rows(text, source, (_FINGERPRINT, _PEM)):
        digest = _digest(row, where)
        armour = _ARMOUR.fullmatch(row[_PEM].strip())
        if armour is None:
            raise BadReport(f"{where}: not a PEM certificate")
        try:
            der = base64.b64decode("".join(armour[1].split()), validate=True)
        except ValueError as error:  # binascii.Error, or one of its own for what is not ASCII
            raise BadReport(f"{where}: not base64: {error}") from error
        is_ = hashlib.sha256(der).hexdigest()
        if is_ != digest:
            raise BadReport(f"{where}: said to be the certificate with sha256 {digest}, is {is_}")
        yield digest, der


def _rows(text: str, source: str, wanted: Sequence[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Rows by column, with where they stand."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = next(reader, [])
        for name in wanted:
            if header.count(name) != 1:
                found = " ".join(", ".join(header).split())[:200]
                raise BadReport(
                    f"{source}: line 1: expected a column {name!r}; has the report changed? found {found}"
                )
        for row in reader:
            where = f"{source}: line {reader.line_num}"
            if len(row) != len(header):
                raise BadReport(f"{where}: expected {len(header)} fields, found {len(row)}; a truncated file?")
            yield dict(zip(header, row, strict=True)), where
    except csv.Error as error:
        raise BadReport(f"{source}: line {reader.line_num}: {error}; a truncated file?") from error


def _digest(row: Mapping[str, str], where: str) -> str:
    if not _DIGEST.fullmatch(row[_FINGERPRINT]):
        raise BadReport(f"{where}: {_FINGERPRINT} is 64 hex digits, found {row[_FINGERPRINT][:80]!r}")
    return row[_FINGERPRINT].lower()


def _purposes(
    row: Mapping[str, str], status_column: str, bits_column: str | None, where: str
) -> frozenset[Purpose]:
    status = row[status_column]
    if status in _NOT_TRUSTED:
        return frozenset()
    if status not in _TRUSTED:
        known = ", ".join(sorted(filter(None, _NOT_TRUSTED | _TRUSTED.keys())))
        raise BadReport(f"{where}: {status_column}: unknown status {status[:80]!r}; known are {known}")
    if not _TRUSTED[status]:
        return frozenset({Purpose.UNKNOWN})
    if bits_column is None:
        return frozenset({Purpose.SERVER})
    bits = [bit.strip() for bit in row[bits_column].split(";") if bit.strip()]
    found = frozenset().union(*(_PURPOSES.get(bit, frozenset({Purpose.OTHER})) for bit in bits))
    return found or frozenset({Purpose.UNKNOWN})
