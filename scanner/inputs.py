"""Certificates out of files that somebody has: PEM, DER, PKCS#7, JSON Lines (each also gzipped), and directories.

A line of JSON has a certificate, or the digest of one, or it is a line of zgrab2's and holds a whole session.

Everything is streamed; a file of a million lines costs the memory of its longest line. What a file is, its bytes
say, not its name. `BadInput` is one clear line.
"""

import base64
import binascii
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, cast

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from scanner import der, zgrab2
from scanner.records import Observation, Role

LINE_BYTES = 1 << 20
"""The longest line that is read; no certificate comes near it."""
DER_BYTES = 1 << 26
"""The largest DER file that is read."""

MOST = 2**53
"""The largest count that is taken: sums of counts stay exact."""

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CERTIFICATES = {
    "CERTIFICATE",
    "X509 CERTIFICATE",
    "TRUSTED CERTIFICATE",
}  # RFC 7468 section 5.1, and OpenSSL's own
_BAGS = {"PKCS7", "PKCS #7 SIGNED DATA", "CMS"}
_NOTHING = "no certificate in it (PEM, DER, PKCS#7 and JSON Lines are read)"

Skipped = Callable[[str, str], None]
"""Told of an entry that was left out: where, and why."""

_Lines = Iterable[tuple[int, bytes]]


class BadInput(ValueError):  # the message is what a person reads; Error would say nothing more
    """An input that holds no certificate, or an entry of it that cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class SourcedCertificate:
    """One certificate and where it came from.

    `source` is the file, with `:N` for the N-th certificate or line of a file that has several. `role` is what the
    input says, None where it says nothing. `count` is how often it was seen; `operator` and `day` are the input's,
    and so is `required`: whether the peer that it was presented to insisted.
    """

    source: str
    der: bytes
    role: Role | None = None
    count: int = 1
    operator: str | None = None
    day: date | None = None
    required: bool | None = None


@dataclass(frozen=True, slots=True)
class SourcedDigest:
    """What a log says of a certificate that it does not have: the SHA-256 of its DER, lower-case hex."""

    source: str
    sha256: str
    role: Role | None = None
    count: int = 1
    operator: str | None = None
    day: date | None = None
    required: bool | None = None


@dataclass(frozen=True, slots=True)
class SourcedObservation:
    """A session that somebody else's scanner had."""

    source: str
    observation: Observation


Entry = SourcedCertificate | SourcedDigest | SourcedObservation


def _refuse(where: str, why: str) -> None:
    raise BadInput(f"{where}: {why}")


def read_certificates(path: Path, skipped: Skipped = _refuse) -> Iterator[SourcedCertificate]:
    """Every certificate of `read_entries`, those of sessions too; an entry that is only a digest is skipped."""
    for entry in read_entries(path, skipped):
        if isinstance(entry, SourcedCertificate):
            yield entry
        elif isinstance(entry, SourcedDigest):
            skipped(entry.source, "a digest, and no certificate")
        else:
            for number, data in enumerate(entry.observation.certificate_list):
                yield SourcedCertificate(entry.source, data, Role.CA if number else Role.SERVER)


def read_entries(path: Path, skipped: Skipped = _refuse) -> Iterator[Entry]:
    """Everything in a file, or in the files below a directory in the order of their names.

    Raises BadInput for a path that cannot be read or holds no certificate. An entry that cannot be used (a line
    that is no JSON, a block that is no base64) is given to `skipped`, by default refused. Files of a directory
    that hold no certificate are passed over, as long as one of them does.
    """
    found = False
    for file in _files(path):
        try:
            for entry in _file(file, skipped):
                found = True
                yield entry
        except OSError as error:
            if file == path:
                raise BadInput(f"{file}: {error.strerror or 'cannot be read'}") from error
            skipped(str(file), error.strerror or "cannot be read")
    if not found:
        raise BadInput(f"{path}: {_NOTHING}")


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for directory, names, files in os.walk(path):
        names.sort()
        yield from (Path(directory, name) for name in sorted(files))


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as plain:
        if plain.peek(2)[:2] != b"\x1f\x8b":
            yield plain
            return
        try:
            with gzip.GzipFile(fileobj=plain) as unzipped:
                yield cast("IO[bytes]", unzipped)
        except (EOFError, gzip.BadGzipFile) as error:
            raise BadInput(f"{path}: a broken gzip file: {error}") from error


def _file(path: Path, skipped: Skipped) -> Iterator[Entry]:
    if not path.is_file():
        if not path.exists():
            raise BadInput(f"{path}: no such file or directory")
        return  # a socket or a pipe below a directory
    with _open(path) as stream:
        first, number = stream.readline(LINE_BYTES), 1
        while first and not first.strip():
            first, number = stream.readline(LINE_BYTES), number + 1
        lines = enumerate(_chain(first, _lines(stream)), number)
        if first[:1] == b"0" and first[1:2] >= b"\x80":
            yield from _der(first + stream.read(DER_BYTES), str(path))
        elif first.lstrip()[:1] == b"{":
            yield from _json_lines(lines, str(path), skipped)
        else:
            yield from _pem(lines, str(path), skipped)


def _numbered(ders: Iterator[bytes], source: str) -> Iterator[SourcedCertificate]:
    for number, data in enumerate(ders, 1):
        yield SourcedCertificate(f"{source}:{number}" if number > 1 else source, data)


def _der(data: bytes, source: str) -> Iterator[SourcedCertificate]:
    yield from _numbered(_certificates(data), source)


def _certificates(data: bytes) -> Iterator[bytes]:
    """The certificates in DER: one after another, or in a PKCS#7 bag."""
    at = 0
    while at < len(data):
        try:
            outer = der.element(data, at)
            parts = der.children(outer)
        except der.DerError:
            yield from _foreign_bag(data[at:])
            return
        at = outer.end
        if [part.tag for part in parts] == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
            yield outer.whole
        elif parts and parts[0].tag == der.OID and der.oid_text(parts[0].content) == _SIGNED_DATA:
            yield from _bag(outer)


def _bag(content_info: der.Element) -> Iterator[bytes]:
    """The certificates of a SignedData (RFC 5652 section 5.1), readable or not."""
    try:
        signed = der.children(der.children(content_info)[1])[0]
        bags = [part for part in der.children(signed) if part.tag == 0xA0]
        yield from (item.whole for bag in bags for item in der.children(bag) if item.tag == der.SEQUENCE)
    except (der.DerError, IndexError):
        yield from _foreign_bag(content_info.whole)


def _foreign_bag(data: bytes) -> Iterator[bytes]:
    """A bag in BER, as some tools write it: only OpenSSL reads that."""
    try:
        found = pkcs7.load_der_pkcs7_certificates(data)
    except ValueError:
        return
    yield from (certificate.public_bytes(Encoding.DER) for certificate in found)


def _blocks(lines: _Lines) -> Iterator[tuple[str, bytes | None, int]]:
    """PEM blocks as (label, DER, first line); DER is None where it is no base64; text between is ignored."""
    label, body, began = "", bytearray(), 0
    for number, line in lines:
        text = line.strip()
        if text.startswith(b"-----BEGIN ") and text.endswith(b"-----"):
            label, body, began = text[11:-5].decode("latin-1"), bytearray(), number
        elif label and text.startswith(b"-----END "):
            yield label, _decode(bytes(body)), began
            label = ""
        elif label and b":" not in text and len(body) <= DER_BYTES:  # RFC 1421 headers have a colon
            body += text


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _decode(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    while line := stream.readline(LINE_BYTES):
        yield line


def _pem(lines: _Lines, source: str, skipped: Skipped) -> Iterator[SourcedCertificate]:
    def ders() -> Iterator[bytes]:
        for label, data, began in _blocks(lines):
            if label not in _CERTIFICATES | _BAGS:
                continue
            if data is None:
                skipped(f"{source}: line {began}", f"{label} is not base64")
            else:
                yield from _unwrap(label, data)

    yield from _numbered(ders(), source)


def _unwrap(label: str, data: bytes) -> Iterator[bytes]:
    if label in _BAGS:
        yield from _certificates(data)
    elif label == "TRUSTED CERTIFICATE":
        try:
            yield der.element(data).whole  # OpenSSL's trust settings follow the certificate
        except der.DerError:
            yield data
    else:
        yield data


def _json_lines(lines: _Lines, source: str, skipped: Skipped) -> Iterator[Entry]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{source}:{number}"
        try:
            yield from _json_line(line, where)
        except ValueError as error:
            skipped(where, str(error))


def _json_line(line: bytes, where: str) -> Iterator[Entry]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not a JSON object on one line") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object on one line")  # noqa: TRY004  # bad data, not a bad argument
    if zgrab2.scans(values):
        yield from [SourcedObservation(where, one) for one in zgrab2.observations(values)]
        return
    role, count, operator, required = (values.get(key) for key in ("role", "count", "operator", "required"))
    if role is not None and role not in list(Role):
        raise ValueError(f"role is one of {', '.join(Role)}, found {role!r}")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST):
        raise ValueError(f"count is a whole number from 1, found {count!r}")
    if operator is not None and not isinstance(operator, str):
        raise ValueError(f"operator is text, found {operator!r}")
    if required is not None and not isinstance(required, bool):
        raise ValueError(f"required is true or false, found {required!r}")
    its_role = Role(role) if role else None
    facts = (count or 1, operator, _day(values.get("day")), required)
    if not values.keys() & {"pem", "der"} and "sha256" in values:
        yield SourcedDigest(where, _digest(values["sha256"]), its_role, *facts)
        return
    for number, data in enumerate(_json_certificates(values)):
        # The first is what was presented; others in the same text are its certificate_list.
        yield SourcedCertificate(where, data, Role.CA if number else its_role, *facts)


def _digest(text: object) -> str:
    """SHA-256 as programs write it: hex of either case, perhaps with colons."""
    digest = str(text).replace(":", "").lower()
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"sha256 is 64 hex digits, found {str(text)[:80]!r}")
    return digest


def _json_certificates(values: dict[str, object]) -> list[bytes]:
    pem, encoded = values.get("pem"), values.get("der")
    if isinstance(encoded, str):
        data = _decode(encoded.encode())
        if not data:
            raise ValueError("der is not base64")
        return [data]
    if not isinstance(pem, str):
        raise ValueError("neither pem nor der nor sha256")  # noqa: TRY004  # bad data, not a bad argument
    blocks = list(_blocks(enumerate(pem.encode().splitlines(), 1)))
    found = [data for label, data, _ in blocks if label in _CERTIFICATES and data]
    if not found:
        raise ValueError("pem holds no certificate")
    return found


def _day(text: object) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise ValueError(f"day is a date YYYY-MM-DD, found {text!r}") from error
