"""A factory of certificates for tests: one case is one function with one docstring.

Everything is valid by default; a case overrides only its point. Keys come from a small pool, since making them
is what costs; `key(n)` is always the same key within a process.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scanner.certificates import parse
from scanner.records import Certificate, Program
from scanner.trust import Purpose, Root, TrustSnapshot

START = datetime(2026, 1, 1, tzinfo=UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
EMAIL, ANY = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


@cache
def key(number=0):
    """The `number`-th elliptic curve key."""
    return ec.generate_private_key(ec.SECP256R1())


def name(text):
    """A Name with a common name, and an organisation after a slash: `CN/O`."""
    common, _, organisation = text.partition("/")
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


@dataclass
class Issued:
    """A certificate with the key that it certifies and the name it bears, so that it can issue others."""

    certificate: Certificate
    private_key: object
    subject: x509.Name
    pem: str = field(default="", repr=False)

    @property
    def sha256(self):
        return self.certificate.sha256


def issue(
    subject,
    by=None,
    *,
    private_key=None,
    ca=False,
    path_length=None,
    key_usage=True,
    key_cert_sign=None,
    eku=None,
    dns=(),
    alternative_names=(),
    constraints=None,
    policies=(),
    not_before=START,
    days=365,
    identifiers=True,
    digest=hashes.SHA256,
    issuer_name=None,
    padding=None,
    extra=(),
    serial=None,
):
    """One certificate, self-signed without `by`."""
    private_key = private_key or key()
    subject = name(subject) if isinstance(subject, str) else subject
    signer = by.private_key if by else private_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name or (by.subject if by else subject))
        .public_key(private_key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + timedelta(days=days))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if key_usage:
        signs = ca if key_cert_sign is None else key_cert_sign
        usage = x509.KeyUsage(True, False, False, False, False, bool(signs), bool(signs), False, False)
        builder = builder.add_extension(usage, critical=True)
    if identifiers:
        ski = x509.SubjectKeyIdentifier.from_public_key(private_key.public_key())
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(ski, critical=False).add_extension(aki, critical=False)
    if eku is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(eku)), critical=False)
    names = [*(x509.DNSName(host) for host in dns), *alternative_names]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    if policies:
        listed = [x509.PolicyInformation(x509.ObjectIdentifier(policy), None) for policy in policies]
        builder = builder.add_extension(x509.CertificatePolicies(listed), critical=False)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(signer, digest() if digest else None, rsa_padding=padding)
    der = signed.public_bytes(serialization.Encoding.DER)
    pem = signed.public_bytes(serialization.Encoding.PEM).decode()
    return Issued(parse(der), private_key, subject, pem)


def root(text="Root", number=1, **changes):
    """A self-signed CA certificate, valid for ten years."""
    return issue(text, private_key=key(number), ca=True, **{"days": 3650, **changes})


def intermediate(by, text="Intermediate", number=2, **changes):
    """A CA certificate issued by another."""
    return issue(text, by, private_key=key(number), ca=True, **{"days": 1825, **changes})


def leaf(by, text="mx.example.com", number=3, **changes):
    """An end entity certificate for both roles, with the host's name."""
    defaults = {"eku": (SERVER, CLIENT), "dns": ("mx.example.com",), "days": 90}
    return issue(text, by, private_key=key(number), **{**defaults, **changes})


def row(issued, *, owner=None, sct_not_after=None, mozilla_distrust=None, removed=None, **programs):
    """A root's row: programs with their purposes as words, `mozilla="server"`."""
    words = {program: programs.get(program.value, "") for program in Program}
    purposes = {
        program: frozenset(Purpose(word) for word in text.split(";") if word) for program, text in words.items()
    }
    return Root(
        certificate=issued.certificate,
        purposes=MappingProxyType(purposes),
        owner=owner,
        chrome_sct_not_after=sct_not_after,
        mozilla_server_distrust_after=mozilla_distrust,
        chrome_removed=removed,
    )


def snapshot(*rows, intermediates=(), chrome_anchors=()):
    """A trust snapshot of these rows."""
    return TrustSnapshot(
        id="test",
        as_of=date(2026, 11, 24),
        sources={},
        roots={item.certificate.sha256: item for item in rows},
        intermediates=tuple(item.certificate for item in (*intermediates, *chrome_anchors)),
        chrome_anchors=frozenset(item.sha256 for item in chrome_anchors),
    )


def certificates(*issued):
    """The records of several issued certificates."""
    return [item.certificate for item in issued]


def sct_extension(*times):
    """Embedded SCTs with these times, in the form of RFC 6962 section 3.3; their signatures are nonsense."""
    listed = b""
    for time in times:
        milliseconds = int(time.timestamp() * 1000)
        log = hashlib.sha256(str(milliseconds).encode()).digest()
        sct = (
            b"\0" + log + milliseconds.to_bytes(8, "big") + b"\0\0" + b"\x04\x03" + b"\0\x04" + b"\x30\x02\x05\x00"
        )
        listed += len(sct).to_bytes(2, "big") + sct
    body = len(listed).to_bytes(2, "big") + listed
    value = bytes((0x04, 0x81, len(body))) + body if len(body) > 127 else bytes((0x04, len(body))) + body
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2"), value)
