"""CA certificates as the path builder sees them, read once from their DER.

An authority is a name with a key: what verifies a signature. Its certificates say under which limits somebody
vouches for it; the same authority may have many (cross-signed, renewed, self-signed). Thinking in authorities
makes a signature be checked once per key, however many certificates carry it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from scanner import der
from scanner.constraints import NameConstraints, Names, read_constraints, read_names
from scanner.names import NameKey, name_key
from scanner.records import Certificate

BASIC_CONSTRAINTS, KEY_USAGE, NAME_CONSTRAINTS = "2.5.29.19", "2.5.29.15", "2.5.29.30"
SUBJECT_KEY_ID, AUTHORITY_KEY_ID, SUBJECT_ALTERNATIVE_NAME = "2.5.29.14", "2.5.29.35", "2.5.29.17"
ANY_EKU = "2.5.29.37.0"

UNLIMITED = 1 << 30
"""The pathLen of a certificate without one."""


@dataclass(slots=True, eq=False)
class Authority:
    """A name with a key.

    `key_ids` are the subject key identifiers that its certificates claim for it. `known`: from the snapshot.
    """

    name: NameKey
    spki: bytes
    key_bits: bytes
    known: bool = False
    certificates: list["CaCertificate"] = field(default_factory=list)
    key_ids: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    """What is needed of any certificate in order to look for its issuer."""

    certificate: Certificate
    parts: der.CertificateParts
    issuer: NameKey
    subject: NameKey
    authority_key_id: bytes | None

    @property
    def self_issued(self) -> bool:
        """Issuer and subject are one name (RFC 5280 section 3.2)."""
        return self.issuer == self.subject

    def names(self) -> Names | None:
        """What name constraints apply to; None when the names cannot be read."""
        alternative = self.parts.extension(SUBJECT_ALTERNATIVE_NAME)
        try:
            return read_names(self.parts.subject, alternative.value if alternative else None)
        except der.DerError:
            return None


@dataclass(frozen=True, slots=True, eq=False)
class CaCertificate:
    """A certificate that may sign others. `usage` is its extended key usages; None means without limit."""

    child: Child
    authority: Authority
    path_length: int
    constraints: NameConstraints | None
    usage: frozenset[str] | None

    @property
    def sha256(self) -> str:
        return self.child.certificate.sha256


def read_child(certificate: Certificate) -> Child | None:
    """The certificate as a child, or None when its structure or names cannot be read."""
    try:
        parts = der.split_certificate(certificate.der)
        issuer, subject = name_key(parts.issuer), name_key(parts.subject)
    except der.DerError:
        return None
    return Child(certificate, parts, issuer, subject, _authority_key_id(parts))


def _authority_key_id(parts: der.CertificateParts) -> bytes | None:
    extension = parts.extension(AUTHORITY_KEY_ID)
    if extension is None:
        return None
    try:
        fields = der.children(der.only(extension.value, der.SEQUENCE))
    except der.DerError:
        return None  # a hint only
    return next((item.content for item in fields if item.tag == 0x80), None)


def subject_key_id(parts: der.CertificateParts) -> bytes | None:
    """The subject key identifier, or None."""
    extension = parts.extension(SUBJECT_KEY_ID)
    if extension is None:
        return None
    try:
        return der.only(extension.value, der.OCTET_STRING).content
    except der.DerError:
        return None  # a hint only


@dataclass(frozen=True, slots=True)
class SigningLimits:
    """What a certificate says about signing others: pathLen and name constraints."""

    path_length: int
    constraints: NameConstraints | None


def issuer_key(child: Child, issuers: Sequence[Authority]) -> str:
    """What tells the issuer of a certificate from others, as `Classification.issuer_key` has it.

    `issuers` are the authorities whose key verified the signature. Several are one key described in several ways.
    """
    if issuers:
        return min(hashlib.sha256(authority.spki).hexdigest() for authority in issuers)
    said = [child.issuer] if child.authority_key_id is None else [child.issuer, child.authority_key_id.hex()]
    kind = "named" if child.authority_key_id is None else "claimed"
    return f"{kind}:{hashlib.sha256(json.dumps(said).encode()).hexdigest()}"


def signing_limits(child: Child) -> SigningLimits | None:
    """The limits of a CA certificate, or None when it must not sign certificates.

    CA:TRUE, and keyCertSign where key usage is present (RFC 5280 sections 4.2.1.3, 4.2.1.9). A version 1
    certificate has no extensions; it counts when it is self-issued, and then only an anchor comes of it.
    An extension that limits and cannot be read, or stands twice, makes a certificate unfit to sign.
    """
    parts = child.parts
    if parts.version == 1:
        return SigningLimits(UNLIMITED, None) if child.self_issued else None
    oids = [extension.oid for extension in parts.extensions]
    if any(oids.count(oid) > 1 for oid in (BASIC_CONSTRAINTS, KEY_USAGE, NAME_CONSTRAINTS)):
        return None
    try:
        path_length = _path_length(parts)
        if path_length is None or not _may_sign(parts):
            return None
        constraints = parts.extension(NAME_CONSTRAINTS)
        return SigningLimits(path_length, read_constraints(constraints.value) if constraints else None)
    except der.DerError:
        return None


def _path_length(parts: der.CertificateParts) -> int | None:
    extension = parts.extension(BASIC_CONSTRAINTS)
    if extension is None:
        return None
    fields = der.children(der.only(extension.value, der.SEQUENCE))
    if not fields or fields[0].tag != der.BOOLEAN or fields[0].content == b"\0":
        return None
    if len(fields) == 1:
        return UNLIMITED
    if fields[1].tag != der.INTEGER or len(fields) != 2:
        raise der.DerError("not BasicConstraints")
    length = int.from_bytes(fields[1].content, "big", signed=True)
    if length < 0:
        raise der.DerError("a negative pathLenConstraint")
    return min(length, UNLIMITED)


def _may_sign(parts: der.CertificateParts) -> bool:
    extension = parts.extension(KEY_USAGE)
    if extension is None:
        return True
    bits = der.only(extension.value, der.BIT_STRING).content
    return len(bits) > 1 and bool(bits[1] & 0x04)  # keyCertSign is bit 5, counted from the most significant


def usage_limit(certificate: Certificate) -> frozenset[str] | None:
    """The extended key usages that a CA certificate leaves to those below it, None for no limit.

    An extension that cannot be read leaves nothing.
    """
    if certificate.eku_oids is None:
        return frozenset() if certificate.eku_class == "unparsable" else None
    return None if ANY_EKU in certificate.eku_oids else frozenset(certificate.eku_oids)


def new_authority(child: Child) -> Authority:
    """The authority that the certificate names, still without certificates."""
    spki = child.parts.spki
    bits = der.children(der.only(spki, der.SEQUENCE))[-1].content
    return Authority(child.subject, spki, bits)
