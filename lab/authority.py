"""A certificate world of the lab's own: authorities of every standing, and the trust snapshot that knows them.

Nothing here chains to a real root, so a lab scan takes its own snapshot (`write_snapshot`).

    everywhere ------- Lab CA everywhere, Lab CA server-limited (serverAuth only), Lab CA crossed (second)
    not-chrome ------- Lab CA not-chrome, Lab CA anchored (which Chrome anchors on directly), Lab CA crossed
    sct-limited, purpose-unknown, email, removed --- one intermediate each
    private, never shown: self-signed CAs in no row; the last is never presented either
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab.issue import EKUS, Issued, Key, Leaf, make_ca, make_leaf, new_key, without_end

__all__ = ["Authority", "Issued", "Leaf", "Presented"]

PROGRAMS = ("mozilla", "chrome", "apple", "microsoft")
HEADER = ("sha256", "subject", "not_before", "not_after", *PROGRAMS, "chrome_sct_not_after")
ANCHORS_FILE = "chrome_intermediate_anchors.pem"
SCT_LIMIT = timedelta(days=30)
"""How long ago Chrome stopped to trust the `sct-limited` root for certificates with a later SCT."""

# name -> what each program has the root for; the keys are also the names of the lab's public authorities
ROOTS: dict[str, dict[str, str]] = {
    "everywhere": dict.fromkeys(PROGRAMS, "server"),
    "not-chrome": {"mozilla": "server", "apple": "server"},
    "sct-limited": {"mozilla": "server", "chrome": "server"},
    "purpose-unknown": {"apple": "unknown", "microsoft": "unknown"},
    "email": {"mozilla": "email"},
    "removed": {},
}


@dataclass(frozen=True, slots=True)
class Presented:
    """What a server presents: the end entity's key and the certificate_list as DER."""

    key: Key
    certificate_list: tuple[bytes, ...]

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each certificate, in order, as rows have it."""
        return [hashlib.sha256(der).hexdigest() for der in self.certificate_list]


class Authority:
    """All issuers of one lab, and what they issue."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.roots = {name: self._root(f"Lab root {name}") for name in ROOTS}
        self.issuers = {name: self._intermediate(f"Lab CA {name}", root) for name, root in self.roots.items()}
        everywhere, not_chrome = self.roots["everywhere"], self.roots["not-chrome"]
        private = self._root("Lab private root")
        self.issuers |= {
            "server-limited": self._intermediate("Lab CA server-limited", everywhere, EKUS["server-only"]),
            "anchored": self._intermediate("Lab CA anchored", not_chrome),
            "crossed": self._crossed("Lab CA crossed", not_chrome, everywhere),
            "private": self._intermediate("Lab private CA", private),
            "never-shown": self._intermediate("Lab CA never shown", self._root("Lab root never shown")),
        }
        self._stranger = self._root("Lab stranger").certificate

    def issue(self, leaf: Leaf, host: str) -> tuple[Issued, tuple[x509.Certificate, ...]]:
        """The certificate for a host, and the certificate_list that its server presents."""
        issued = make_leaf(leaf, host, None if leaf.issuer == "self" else self.issuers[leaf.issuer], self.now)
        return issued, self._listed(issued, leaf.listed)

    def present(self, leaf: Leaf, host: str) -> Presented:
        """The same as DER, which alone can hold a certificate that no strict reader takes."""
        issued, listed = self.issue(leaf, host)
        ders = [certificate.public_bytes(Encoding.DER) for certificate in listed]
        if leaf.unreadable:
            signer = issued.key if leaf.issuer == "self" else self.issuers[leaf.issuer].key
            ders[0] = without_end(issued.certificate, signer)
        return Presented(issued.key, tuple(ders))

    def write_snapshot(self, directory: Path) -> None:
        """A trust snapshot of the lab's public roots, in the form of the bundled one."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "roots.pem").write_bytes(_pem([root.certificate for root in self.roots.values()]))
        (directory / ANCHORS_FILE).write_bytes(_pem([self.issuers["anchored"].certificate]))
        with (directory / "roots.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(self._row(name, root) for name, root in self.roots.items())
        (directory / "snapshot.toml").write_text(
            f'id = "lab"\nas_of = "{self.now.date()}"\nchrome_anchors = "{ANCHORS_FILE}"\n'
            "\n[sources]\n" + "".join(f'{program} = "the lab"\n' for program in PROGRAMS),
            encoding="utf-8",
        )

    def _row(self, name: str, root: Issued) -> Sequence[str]:
        certificate = root.certificate
        limit = (self.now - SCT_LIMIT).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [
            hashlib.sha256(root.der).hexdigest(),
            certificate.subject.rfc4514_string(),
            str(certificate.not_valid_before_utc.date()),
            str(certificate.not_valid_after_utc.date()),
            *(ROOTS[name].get(program, "") for program in PROGRAMS),
            limit if name == "sct-limited" else "",
        ]

    def _listed(self, issued: Issued, form: str) -> tuple[x509.Certificate, ...]:
        above = issued.above
        lists = {
            "complete": (issued.certificate, *above[:-1]),
            "with-root": (issued.certificate, *above),
            "leaf-only": (issued.certificate,),
            "half": (issued.certificate, *above[:1]),
            "untidy": (issued.certificate, self._stranger, *reversed(above), *above[:1]),
        }
        return lists[form]

    def _root(self, name: str) -> Issued:
        key = new_key()
        return Issued(make_ca(name, key, self.now), key)

    def _intermediate(
        self, name: str, above: Issued, usages: Sequence[x509.ObjectIdentifier] | None = None
    ) -> Issued:
        key = new_key()
        return Issued(make_ca(name, key, self.now, above, usages), key, (above.certificate, *above.above))

    def _crossed(self, name: str, first: Issued, second: Issued) -> Issued:
        """One CA with a certificate of each; a complete list has both."""
        key = new_key()
        certificates = [make_ca(name, key, self.now, above) for above in (first, second)]
        return Issued(certificates[0], key, (certificates[1], second.certificate))


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
