"""Makes one certificate: a CA's, an end entity's, or one that breaks a rule of X.509 on purpose.

Keys are P-256, made anew for every lab; one RSA key serves all RSA end entities of a process, since it takes long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

EKUS: dict[str, tuple[x509.ObjectIdentifier, ...] | None] = {
    "server+client": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "server-only": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client-only": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "any": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
    "any-and-server": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.SERVER_AUTH),
    "all-and-email": (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ),
    "neither": (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    "absent": None,
}
"""Sets of extended key usages by name; `unparsable`, an extension that breaks off, is the one that is no set."""

DOMAIN_VALIDATED = x509.PolicyInformation(x509.ObjectIdentifier("2.23.140.1.2.1"), None)
BROKEN_EKU = x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"\x30\x03\x06\x05\x2b")
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
NO_DATE = b"991399999999Z"  # thirteenth month, day 99


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key and the certificates above it, the root last."""

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Leaf:
    """An end entity certificate to issue: valid, named and complete unless a field says otherwise.

    `eku` is a name of `EKUS` or `unparsable`; `issuer` a name of `Authority.issuers`, or `self`. `listed` is what
    the server presents: `complete` (without the root), `half` (the first issuer only), `leaf-only`, `with-root` or
    `untidy` (odd order, a duplicate and a stranger). `named` is `host`, `other` (somebody else), `wildcard` or
    `common-name` (no subjectAltName). `age` is the days since notBefore, `sct_age` those since its embedded SCT.
    `unreadable`: its notAfter is no date, which no strict reader takes.
    """

    eku: str = "server-only"
    issuer: str = "everywhere"
    listed: str = "complete"
    named: str = "host"
    age: int = 20
    sct_age: int | None = None
    expired: bool = False
    claims_public: bool = False
    rsa: bool = False
    unreadable: bool = False


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def make_ca(
    name: str,
    key: Key,
    now: datetime,
    above: Issued | None = None,
    usages: Sequence[x509.ObjectIdentifier] | None = None,
) -> x509.Certificate:
    """A CA's certificate, signed by the one `above`, or by itself."""
    subject = common_name(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1000))
        .not_valid_after(now + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(above.key if above else key, hashes.SHA256())


def make_leaf(leaf: Leaf, host: str, issuer: Issued | None, now: datetime) -> Issued:
    """The certificate of a host; without an issuer it is self-signed."""
    key: Key = rsa_key() if leaf.rsa else new_key()
    names = {"host": host, "other": f"other.{host}", "wildcard": f"*.{host.partition('.')[2]}", "common-name": host}
    name = names[leaf.named]
    begin = now - timedelta(days=400 if leaf.expired else leaf.age)
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(name))
        .issuer_name(issuer.certificate.subject if issuer else common_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=90))
    )
    for extension in _extensions(leaf, name, issuer, now):
        builder = builder.add_extension(extension, critical=False)
    signer = issuer.key if issuer else key
    above = (issuer.certificate, *issuer.above) if issuer else ()
    return Issued(builder.sign(signer, hashes.SHA256()), key, above)


def _extensions(leaf: Leaf, name: str, issuer: Issued | None, now: datetime) -> list[x509.ExtensionType]:
    usages = EKUS.get(leaf.eku)
    candidates: list[x509.ExtensionType | None] = [
        x509.SubjectAlternativeName([x509.DNSName(name)]) if leaf.named != "common-name" else None,
        BROKEN_EKU if leaf.eku == "unparsable" else x509.ExtendedKeyUsage(usages) if usages else None,
        x509.CertificatePolicies([DOMAIN_VALIDATED]) if leaf.claims_public else None,
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()) if issuer else None,
        _scts(now - timedelta(days=leaf.sct_age)) if leaf.sct_age is not None else None,
    ]
    return [extension for extension in candidates if extension is not None]


def without_end(certificate: x509.Certificate, signer: Key) -> bytes:
    """DER of the same certificate, signed anew, with a notAfter that is no date (RFC 5280 section 4.1.2.5.1)."""
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("signed by ECDSA only")
    end = certificate.not_valid_after_utc.strftime("%y%m%d%H%M%SZ").encode()
    tbs = certificate.tbs_certificate_bytes.replace(end, NO_DATE, 1)
    signature = signer.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return _tlv(0x30, tbs + ECDSA_WITH_SHA256 + _tlv(0x03, b"\0" + signature))


def common_name(text: str) -> x509.Name:
    """A name for people; a common name holds at most 64 characters."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[-64:])])


def _scts(when: datetime) -> x509.UnrecognizedExtension:
    """One embedded SCT of a log that does not exist (RFC 6962 section 3.3); nobody verifies its signature."""
    signature = _tlv(0x30, _tlv(0x02, b"\x01") * 2)
    sct = (
        b"\0"  # version 1
        + _log_id()
        + int(when.timestamp() * 1000).to_bytes(8, "big")
        + b"\0\0"  # no extensions
        + b"\x04\x03"  # SHA-256, ECDSA
        + _vector(signature)
    )
    oid = ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS
    return x509.UnrecognizedExtension(oid, _tlv(0x04, _vector(_vector(sct))))


def _log_id() -> bytes:
    """The identifier of a log: the digest of its key, which here nobody has."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"the lab's log")
    return digest.finalize()


def _vector(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _tlv(tag: int, content: bytes) -> bytes:
    """DER; contents below 64 KB."""
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = bytes([0x81, size])
    else:
        length = bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content
