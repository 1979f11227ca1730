"""A private certificate authority for the lab's real servers: one method, valid by default."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.mta.listener import Credential

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE

EKU = {
    "server+client": (SERVER, CLIENT),
    "server-only": (SERVER,),
    "client-only": (CLIENT,),
    "any": (ANY,),
    "neither": (EMAIL,),
    "absent": None,
}
"""EKU class -> the usages that make it; None for no extension."""


def name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make_key(kind):
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)


class Authority:
    """A root and an issuing CA under it; files go to `directory`."""

    def __init__(self, directory: Path, title="Lab"):
        self.directory = directory
        self.root_key = make_key("ec")
        self.root = sign(title_root := name(f"{title} Root"), title_root, self.root_key, self.root_key, ca=True)
        self.key = make_key("ec")
        self.issuing = sign(name(f"{title} Issuing"), self.root.subject, self.key, self.root_key, ca=True)
        self.root_file = directory / f"{title}-root.pem"
        self.root_file.write_bytes(pem(self.root))

    def issue(
        self, host, eku=(SERVER,), *, key="ec", leaf_only=False, with_root=False, self_signed=False
    ) -> Credential:
        """An end entity certificate for `host` with what is presented after it."""
        own = make_key(key)
        if self_signed:
            certificates = [sign(name(host), name(host), own, own, eku=eku, host=host)]
        else:
            certificates = [sign(name(host), self.issuing.subject, own, self.key, eku=eku, host=host)]
            certificates += [] if leaf_only else [self.issuing]
            certificates += [self.root] if with_root else []
        chain, private = (self.directory / f"{host}-{key}.{kind}" for kind in ("chain", "key"))
        chain.write_bytes(b"".join(map(pem, certificates)))
        private.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Credential(chain, private, tuple(map(der, certificates)))


def sign(subject, issuer, key, issuer_key, *, ca=False, eku=None, host=None):
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if eku is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def write_snapshot(directory: Path, *roots):
    """A trust snapshot in which every program trusts `roots` for servers."""
    rows = ["sha256,subject,not_before,not_after,mozilla,chrome,apple,microsoft,chrome_sct_not_after"]
    for root in roots:
        digest, subject = root.fingerprint(hashes.SHA256()).hex(), root.subject.rfc4514_string()
        days = f"{root.not_valid_before_utc:%Y-%m-%d},{root.not_valid_after_utc:%Y-%m-%d}"
        rows.append(f"{digest},{subject},{days},server,server,server,server,")
    (directory / "roots.csv").write_text("\n".join(rows) + "\n")
    (directory / "roots.pem").write_bytes(b"".join(map(pem, roots)))
    (directory / "snapshot.toml").write_text('id = "lab"\nas_of = "2026-11-24"\n[sources]\nmozilla = "the lab"\n')
