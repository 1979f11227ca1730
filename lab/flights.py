"""A TLS 1.2 server's first flight written by hand, with anything in it that a library would not send (RFC 5246)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import repeat

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

RECORD = 16384


def record(payload: bytes) -> bytes:
    """Handshake messages in as many records as they need."""
    pieces = [payload[start : start + RECORD] for start in range(0, len(payload), RECORD)]
    return b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2) + piece for piece in pieces)


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3) + body


def hello() -> bytes:
    """TLS_RSA_WITH_AES_128_CBC_SHA, which needs no ServerKeyExchange."""
    return _message(2, b"\x03\x03" + bytes(range(32)) + b"\x00\x00\x2f\x00")


def certificates(listed: Sequence[bytes]) -> bytes:
    body = b"".join(len(der).to_bytes(3) + der for der in listed)
    return _message(11, len(body).to_bytes(3) + body)


def request(names: Sequence[bytes]) -> bytes:
    """A CertificateRequest for RSA and ECDSA, with the DER, or whatever it is, of each name."""
    body = b"".join(len(name).to_bytes(2) + name for name in names)
    return _message(13, b"\x02\x01\x40\x00\x04\x04\x01\x04\x03" + len(body).to_bytes(2) + body)


DONE = _message(14, b"")


def flight(listed: Sequence[bytes], names: Sequence[bytes] | None = None) -> bytes:
    """ServerHello to ServerHelloDone; with `names` a client certificate is asked for."""
    asked = b"" if names is None else request(names)
    return record(hello() + certificates(listed) + asked + DONE)


def repeated(der: bytes, octets: int) -> list[bytes]:
    """So many copies that they come to at least so many octets."""
    return list(repeat(der, octets // len(der) + 1))


@cache
def leaf(bits: int = 2048) -> bytes:
    """A certificate for an RSA key; for more bits than can be searched for, of a modulus that nobody can factor."""
    if bits > 4096:
        key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | (1 << 4000) | 1).public_key()
    else:
        key = rsa.generate_private_key(65537, bits).public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key, x509.random_serial_number(), now, now + timedelta(days=30))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)
