"""Client certificates for a lab: a private CA in a folder, and an end entity certificate of each EKU from it.

What is there is used again, so that servers which were told to trust the CA still do.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.issue import Issued, Leaf, make_ca, make_leaf, new_key

VARIANTS: Mapping[str, str] = MappingProxyType(
    {"server-only": "server-only", "client-only": "client-only", "both": "server+client", "no-eku": "absent"}
)
"""Label of a variant -> the EKU class of its certificate."""

CA_FILE = "ca.pem"
NAME = "mxcensus-experiment.example"


class BadFolder(ValueError):
    """A folder of certificates that is neither empty nor ours; the message is one line."""


def made(folder: Path, variants: Mapping[str, str] = VARIANTS) -> dict[str, Path]:
    """Label -> PEM file with certificate and key, signed by `ca.pem`; made now unless the folder has them.

    Raises `BadFolder` where some of the files are there and others are not.
    """
    files = {label: folder / f"{label}.pem" for label in variants}
    there = [file for file in (folder / CA_FILE, *files.values()) if file.exists()]
    if len(there) == len(files) + 1:
        return files
    if there:
        raise BadFolder(f"{there[0]}: a part of the certificates is there; name an empty folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    at, key = datetime.now(UTC).replace(microsecond=0), new_key()
    authority = Issued(make_ca("mxcensus experiment CA", key, at), key)
    for label, file in files.items():
        issued = make_leaf(Leaf(eku=variants[label]), NAME, authority, at)
        private = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.touch(mode=0o600)
        file.write_bytes(issued.certificate.public_bytes(Encoding.PEM) + private)
    (folder / CA_FILE).write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return files
