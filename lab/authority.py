"""A certificate world of the lab's own: authorities, end entities of every kind, and a trust snapshot.

Nothing here chains to a real root, so a lab scan takes its own snapshot (`write_snapshot`). Keys are P-256:
quick to make, and made anew for every lab.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

EKUS: dict[str, tuple[x509.ObjectIdentifier, ...] | None] = {
    "server+client": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "server-only": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client-only": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "any": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
    "neither": (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    "absent": None,
}
DOMAIN_VALIDATED = x509.ObjectIdentifier("2.23.140.1.2.1")
PROGRAMS = ("mozilla", "chrome", "apple", "microsoft")
HEADER = ("sha256", "subject", "not_before", "not_after", *PROGRAMS, "chrome_sct_not_after")

# name -> what each program has the root for; the keys are also the names of the lab's public authorities
ROOTS: dict[str, dict[str, str]] = {
    "everywhere": dict.fromkeys(PROGRAMS, "server"),
    "not-chrome": {"mozilla": "server", "apple": "server"},
    "sct-limited": {"mozilla": "server", "chrome": "server"},
    "purpose-unknown": {"apple": "unknown", "microsoft": "unknown"},
    "email": {"mozilla": "email"},
    "removed": {},
}
SCT_LIMIT = "2020-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key and the certificates above it, the root last."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Leaf:
    """An end entity certificate to issue: valid, named and complete unless a field says otherwise.

    `issuer` is a name of `Authority.issuers`, or `self`. `listed` is what the server presents: `complete`
    (without the root), `leaf-only`, `with-root` or `untidy` (odd order, a duplicate and a stranger).
    """

    eku: str = "server-only"
    issuer: str = "everywhere"
    listed: str = "complete"
    expired: bool = False
    wrong_name: bool = False
    claims_public: bool = False


class Authority:
    """All issuers of one lab, and what they issue."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.roots = {name: self._root(f"Lab root {name}") for name in ROOTS}
        self.issuers = {name: self._intermediate(f"Lab CA {name}", root) for name, root in self.roots.items()}
        self.issuers["server-limited"] = self._intermediate(
            "Lab CA server-limited", self.roots["everywhere"], EKUS["server-only"]
        )
        private = self._root("Lab private root")
        self.issuers["private"] = self._intermediate("Lab private CA", private)
        self.issuers["never-shown"] = self._intermediate("Lab CA never shown", self._root("Lab root never shown"))
        self._stranger = self._root("Lab stranger").certificate

    def issue(self, leaf: Leaf, host: str) -> tuple[Issued, tuple[x509.Certificate, ...]]:
        """The certificate for a host, and the certificate_list that its server presents."""
        name = f"other.{host}" if leaf.wrong_name else host
        begin = self.now - timedelta(days=400 if leaf.expired else 20)
        end = begin + timedelta(days=90)
        key = _key()
        issuer = None if leaf.issuer == "self" else self.issuers[leaf.issuer]
        subject = _name(name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        if leaf.eku == "unparsable":
            broken = x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"\x30\x03\x06\x05\x2b")
            builder = builder.add_extension(broken, critical=False)
        elif (usages := EKUS[leaf.eku]) is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if leaf.claims_public:
            policy = x509.PolicyInformation(DOMAIN_VALIDATED, None)
            builder = builder.add_extension(x509.CertificatePolicies([policy]), critical=False)
        signer = issuer.key if issuer else key
        if issuer:
            authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
            builder = builder.add_extension(authority_key, critical=False)
        above = (issuer.certificate, *issuer.above) if issuer else ()
        issued = Issued(builder.sign(signer, hashes.SHA256()), key, above)
        return issued, self._listed(issued, leaf.listed)

    def write_snapshot(self, directory: Path) -> None:
        """A trust snapshot of the lab's public roots, in the form of the bundled one."""
        directory.mkdir(parents=True, exist_ok=True)
        pem = b"".join(root.certificate.public_bytes(Encoding.PEM) for root in self.roots.values())
        (directory / "roots.pem").write_bytes(pem)
        (directory / "chrome_intermediate_anchors.pem").write_bytes(b"")
        with (directory / "roots.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(self._row(name, root) for name, root in self.roots.items())
        (directory / "snapshot.toml").write_text(
            f'id = "lab"\nas_of = "{self.now.date()}"\nchrome_anchors = "chrome_intermediate_anchors.pem"\n'
            "\n[sources]\n" + "".join(f'{program} = "the lab"\n' for program in PROGRAMS),
            encoding="utf-8",
        )

    def _row(self, name: str, root: Issued) -> Sequence[str]:
        certificate = root.certificate
        return [
            hashlib.sha256(root.der).hexdigest(),
            certificate.subject.rfc4514_string(),
            str(certificate.not_valid_before_utc.date()),
            str(certificate.not_valid_after_utc.date()),
            *(ROOTS[name].get(program, "") for program in PROGRAMS),
            SCT_LIMIT if name == "sct-limited" else "",
        ]

    def _listed(self, issued: Issued, form: str) -> tuple[x509.Certificate, ...]:
        above = issued.above
        lists = {
            "complete": (issued.certificate, *above[:-1]),
            "with-root": (issued.certificate, *above),
            "leaf-only": (issued.certificate,),
            "untidy": (issued.certificate, self._stranger, *reversed(above), *above[:1]),
        }
        return lists[form]

    def _root(self, name: str) -> Issued:
        key = _key()
        subject = _name(name)
        return Issued(self._ca(subject, subject, key, key, None), key)

    def _intermediate(
        self, name: str, above: Issued, usages: tuple[x509.ObjectIdentifier, ...] | None = None
    ) -> Issued:
        key = _key()
        certificate = self._ca(_name(name), above.certificate.subject, key, above.key, usages)
        return Issued(certificate, key, (above.certificate, *above.above))

    def _ca(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        usages: tuple[x509.ObjectIdentifier, ...] | None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=1000))
            .not_valid_after(self.now + timedelta(days=3000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(signer, hashes.SHA256())


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    """A name for people; a common name holds at most 64 characters."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[-64:])])
