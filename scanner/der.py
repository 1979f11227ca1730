"""Reads the outer structure of DER (X.690): tag-length-value elements, and the parts of one certificate.

cryptography reads what certificates mean; it does not give the bytes as they were signed, nor one extension
beside a broken one. This module gives both, and nothing else. Every fault is a `DerError`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

SEQUENCE, SET, INTEGER, BIT_STRING, OCTET_STRING, OID, BOOLEAN = 0x30, 0x31, 0x02, 0x03, 0x04, 0x06, 0x01


MAX_OID = 128
"""Octets of an object identifier. Real ones have about ten; of thousands, Python refuses to make decimals."""


class DerError(ValueError):
    """The bytes are not DER, or not the structure that was asked for."""


class Element(NamedTuple):
    """One element of `data`: `tag` is the identifier octet; content is `data[start:end]`, all `data[at:end]`.

    A tuple, since a certificate makes some fifty of them.
    """

    data: bytes
    tag: int
    at: int
    start: int
    end: int

    @property
    def content(self) -> bytes:
        return self.data[self.start : self.end]

    @property
    def whole(self) -> bytes:
        return self.data[self.at : self.end]


def element(data: bytes, at: int = 0, end: int | None = None) -> Element:
    """The element that begins at `at` and lies before `end`; low tag numbers and definite lengths only."""
    limit = len(data) if end is None else end
    if at + 2 > limit:
        raise DerError("truncated element")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise DerError("high tag number")
    if length >= 0x80:
        count = length & 0x7F
        if count == 0:
            raise DerError("indefinite length")
        if count > 4 or start + count > limit:
            raise DerError("length out of bounds")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > limit:
        raise DerError("element longer than what holds it")
    return Element(data, tag, at, start, start + length)


def only(data: bytes, tag: int) -> Element:
    """The one element that `data` consists of, with this tag."""
    found = element(data)
    if found.tag != tag or found.end != len(data):
        raise DerError(f"expected one element with tag {tag:#04x}")
    return found


def children(parent: Element) -> list[Element]:
    """The elements inside a constructed element, in order."""
    data, _, _, at, end = parent
    found: list[Element] = []
    while at < end:
        # Most elements have a short length: those are read here, since a certificate makes so many.
        if at + 2 <= end and (length := data[at + 1]) < 0x80 and (tag := data[at]) & 0x1F != 0x1F:
            start = at + 2
            if start + length <= end:
                found.append(tuple.__new__(Element, (data, tag, at, start, start + length)))
                at = start + length
                continue
        child = element(data, at, end)
        found.append(child)
        at = child.end
    return found


def encode(tag: int, content: bytes) -> bytes:
    """One element with this content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


@lru_cache(maxsize=1024)
def oid_text(content: bytes) -> str:
    """Dotted decimals of an object identifier's content (X.690 section 8.19), of at most `MAX_OID` octets."""
    if not content or content[-1] & 0x80 or len(content) > MAX_OID:
        raise DerError("bad object identifier")
    arcs, value = [], 0
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


class Extension(NamedTuple):
    """One extension as it stands: dotted OID, criticality, DER of the value."""

    oid: str
    critical: bool
    value: bytes
    whole: bytes


@dataclass(frozen=True, slots=True)
class CertificateParts:
    """The parts of a certificate as they were encoded (RFC 5280 section 4.1).

    `version` is 1, 2 or 3. `before_extensions` is the content of the TBSCertificate up to the extensions.
    """

    tbs: bytes
    version: int
    serial: bytes
    issuer: bytes
    subject: bytes
    spki: bytes
    before_extensions: bytes
    extensions: tuple[Extension, ...]
    signature_algorithm: bytes
    signature_oid: str
    signature: bytes

    def extension(self, oid: str) -> Extension | None:
        """The first extension with this OID, or None."""
        return next((extension for extension in self.extensions if extension.oid == oid), None)


@lru_cache(maxsize=4)
def split_certificate(der: bytes) -> CertificateParts:
    """The parts of one certificate; raises DerError when the outer structure is not there.

    The last few are kept, since who parses a certificate often looks for its issuer next.
    """
    outer = children(only(der, SEQUENCE))
    if len(outer) != 3 or [part.tag for part in outer] != [SEQUENCE, SEQUENCE, BIT_STRING]:
        raise DerError("not a certificate")
    tbs, algorithm, signature = outer
    fields = children(tbs)
    version = 1
    if fields and fields[0].tag == 0xA0:
        version = fields[0].content[-1] + 1 if fields[0].content else 1
        fields = fields[1:]
    tags = [field.tag for field in fields[:6]]
    if tags != [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]:
        raise DerError("not a TBSCertificate")
    serial, _, issuer, _, subject, spki = fields[:6]
    last = next((field for field in fields[6:] if field.tag == 0xA3), None)
    return CertificateParts(
        tbs=tbs.whole,
        version=version,
        serial=serial.content,
        issuer=issuer.whole,
        subject=subject.whole,
        spki=spki.whole,
        before_extensions=der[tbs.start : last.at if last else tbs.end],
        extensions=_extensions(last) if last else (),
        signature_algorithm=algorithm.whole,
        signature_oid=algorithm_oid(algorithm),
        signature=signature.content[1:],
    )


def algorithm_oid(algorithm: Element) -> str:
    """The OID of an AlgorithmIdentifier."""
    parts = children(algorithm)
    if not parts or parts[0].tag != OID:
        raise DerError("not an AlgorithmIdentifier")
    return oid_text(parts[0].content)


def _extensions(wrapper: Element) -> tuple[Extension, ...]:
    found = []
    for item in children(only(wrapper.content, SEQUENCE)):
        parts = children(item)
        if len(parts) < 2 or parts[0].tag != OID or parts[-1].tag != OCTET_STRING:
            raise DerError("not an Extension")
        critical = len(parts) == 3 and parts[1].tag == BOOLEAN and parts[1].content != b"\0"
        found.append(Extension(oid_text(parts[0].content), critical, parts[-1].content, item.whole))
    return tuple(found)


def with_extensions(parts: CertificateParts, extensions: tuple[Extension, ...]) -> bytes:
    """DER of the same certificate with only these extensions; its signature is no longer valid."""
    listed = encode(0xA3, encode(SEQUENCE, b"".join(extension.whole for extension in extensions)))
    tbs = encode(SEQUENCE, parts.before_extensions + (listed if extensions else b""))
    signature = encode(BIT_STRING, b"\0" + parts.signature)
    return encode(SEQUENCE, tbs + parts.signature_algorithm + signature)
