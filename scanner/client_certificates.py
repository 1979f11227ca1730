"""Client certificates for experiments, from PEM; what is wrong with one is said before the first packet."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL

from scanner import certificates
from scanner.records import EkuClass
from scanner.tls import ClientCertificate, client_context

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,39}")


class BadClientCertificate(ValueError):
    """A client certificate that cannot be used; the message is one line and names the file."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A client certificate with the label under which its results are kept."""

    label: str
    certificate: ClientCertificate
    sha256: str
    eku_class: EkuClass


def read_variant(label: str, pem: bytes, source: str, passphrase: bytes | None, now: datetime) -> Variant:
    """Read PEM with the end entity certificate first and its key anywhere. Raises `BadClientCertificate`."""
    if not _LABEL.fullmatch(label):
        raise BadClientCertificate(f"{label!r} is no label: up to 40 letters, digits and + . _ -")
    listed = _certificates(pem, source)
    end_entity = listed[0]
    for when, wrong in (
        (end_entity.not_valid_after_utc, now > end_entity.not_valid_after_utc),
        (end_entity.not_valid_before_utc, now < end_entity.not_valid_before_utc),
    ):
        if wrong:
            word = "expired" if now > when else "is not valid"
            raise BadClientCertificate(f"{source}: the certificate {word} {_until(now, when)}")
    presented = ClientCertificate(listed, _key(pem, source, passphrase))
    try:
        client_context(presented)
    except (SSL.Error, TypeError, ValueError):
        raise BadClientCertificate(f"{source}: the private key does not belong to the first certificate") from None
    der = end_entity.public_bytes(Encoding.DER)
    return Variant(label, presented, hashlib.sha256(der).hexdigest(), certificates.parse(der).eku_class)


def _until(now: datetime, when: datetime) -> str:
    return f"{'on' if now > when else 'before'} {when:%Y-%m-%d}"


def _certificates(pem: bytes, source: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, UnsupportedAlgorithm):
        raise BadClientCertificate(f"{source}: no certificate in PEM that can be read") from None


def _key(pem: bytes, source: str, passphrase: bytes | None) -> PrivateKeyTypes:
    found = [match[0] for match in _KEY.finditer(pem)]
    if len(found) != 1:
        what = "no private key" if not found else f"{len(found)} private keys, one is wanted,"
        raise BadClientCertificate(f"{source}: {what} beside the certificate")
    is_encrypted = b"ENCRYPTED" in found[0]
    if is_encrypted and passphrase is None:
        raise BadClientCertificate(f"{source}: the private key is encrypted, and there is no passphrase")
    try:
        return load_pem_private_key(found[0], passphrase if is_encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "the passphrase is wrong, or the private key broken" if is_encrypted else "the private key is broken"
        raise BadClientCertificate(f"{source}: {why}") from None
