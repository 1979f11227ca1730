"""What OpenSSL does not show of a handshake that is not encrypted (TLS 1.0 to 1.2), without I/O.

OpenSSL ends a handshake at the first certificate that it cannot read and shows nothing of the list. The server did
present it, so it is read from what passed by; so are certificate types and signature algorithms of a
CertificateRequest, which no public interface gives. TLS 1.3 encrypts all of it; see docs/decisions/0021 and 0141.
"""

from dataclasses import dataclass

MAX_KEPT = 128 * 1024
"""How much of a handshake is worth keeping: OpenSSL reads certificate messages of up to 100 KB."""

_HANDSHAKE = 22  # RFC 5246 section 6.2.1
_CERTIFICATE = 11  # RFC 5246 section 7.4
_CERTIFICATE_REQUEST = 13

CERTIFICATE_TYPES = {
    1: "rsa_sign",
    2: "dss_sign",
    3: "rsa_fixed_dh",
    4: "dss_fixed_dh",
    64: "ecdsa_sign",
    65: "rsa_fixed_ecdh",
    66: "ecdsa_fixed_ecdh",
    67: "gost_sign256",
    68: "gost_sign512",
}
"""IANA's TLS ClientCertificateType Identifiers."""

SIGNATURE_SCHEMES = {
    0x0201: "rsa_pkcs1_sha1",
    0x0203: "ecdsa_sha1",
    0x0401: "rsa_pkcs1_sha256",
    0x0403: "ecdsa_secp256r1_sha256",
    0x0501: "rsa_pkcs1_sha384",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0601: "rsa_pkcs1_sha512",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
    0x080A: "rsa_pss_pss_sha384",
    0x080B: "rsa_pss_pss_sha512",
}
"""IANA's TLS SignatureScheme; others are written as four hex digits."""


@dataclass(frozen=True, slots=True)
class Request:
    """Certificate types and signature algorithms (None before TLS 1.2) of a CertificateRequest, as sent."""

    certificate_types: tuple[str, ...]
    signature_algorithms: tuple[str, ...] | None


def certificates_in(records: bytes | bytearray) -> tuple[bytes, ...]:
    """The certificates of the first Certificate message, as sent; empty where there is no whole and sound one."""
    body = _first(records, _CERTIFICATE)
    return _vector(body) if body is not None else ()


def request_in(records: bytes | bytearray, version: str | None) -> Request | None:
    """The CertificateRequest of a handshake of `version` (IANA's name); None without a whole and sound one."""
    body = _first(records, _CERTIFICATE_REQUEST)
    if not body or version == "TLSv1.3" or len(body) < 1 + body[0]:
        return None
    types = tuple(CERTIFICATE_TYPES.get(number, f"0x{number:02x}") for number in body[1 : 1 + body[0]])
    if version != "TLSv1.2":
        return Request(types, None)
    rest = body[1 + body[0] :]
    size = int.from_bytes(rest[:2])
    if len(rest) < 2 + size or size % 2:
        return None
    numbers = (int.from_bytes(rest[at : at + 2]) for at in range(2, 2 + size, 2))
    return Request(types, tuple(SIGNATURE_SCHEMES.get(number, f"0x{number:04x}") for number in numbers))


def _first(records: bytes | bytearray, kind: int) -> bytes | None:
    """The body of the first message of a kind, None where there is no whole one."""
    messages = _handshake_messages(bytes(records))
    position = 0
    while position + 4 <= len(messages):
        end = position + 4 + int.from_bytes(messages[position + 1 : position + 4])
        if messages[position] == kind:
            return messages[position + 4 : end] if end <= len(messages) else None
        position = end
    return None


def _handshake_messages(records: bytes) -> bytes:
    """The payload of the leading handshake records, joined: a message may be cut anywhere by the record layer."""
    joined = bytearray()
    position = 0
    while position + 5 <= len(records) and records[position] == _HANDSHAKE:
        end = position + 5 + int.from_bytes(records[position + 3 : position + 5])
        joined += records[position + 5 : end]
        position = end
    return bytes(joined)


def _vector(body: bytes) -> tuple[bytes, ...]:
    """`opaque ASN.1Cert<1..2^24-1>` entries of `certificate_list<0..2^24-1>` (RFC 5246 section 7.4.2)."""
    if len(body) != 3 + int.from_bytes(body[:3]):
        return ()
    certificates = []
    position = 3
    while position < len(body):
        end = position + 3 + int.from_bytes(body[position : position + 3])
        if end > len(body) or end == position + 3:
            return ()
        certificates.append(body[position + 3 : end])
        position = end
    return tuple(certificates)
