"""Runs the software matrix and writes its document and its data; with names of software, prints only."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.issue import Issued, Leaf, make_ca, make_leaf, new_key
from lab.mta.listener import Credential, ServerError
from lab.mta.versions import VERSIONS
from matrix import render
from matrix.clients import presented
from matrix.results import Seen
from matrix.servers import MODULES, server_cells
from mxcensus import lab_certificates
from mxcensus.steps import now
from scanner.client_certificates import Variant, read_variant

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "software-matrix.md"
DATA = ROOT / "reports" / "data" / "software_matrix.toml"
LABELS = {**lab_certificates.VARIANTS, "any": "any", "email-only": "neither"}


def main(names: Sequence[str]) -> int:
    unknown = set(names) - set(MODULES)
    if unknown:
        print(f"matrix: no such software: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="lab-matrix-") as folder:
        found = asyncio.run(_all(names or tuple(MODULES), Path(folder)))
    if names:
        print(render.document(found, now().date()))
        return 0
    if len(found) < len(MODULES):
        print("matrix: nothing is written, since not every software could be observed", file=sys.stderr)
        return 1
    DOCUMENT.write_text(render.document(found, now().date()), encoding="utf-8")
    DATA.write_text(render.data(found, now().date()), encoding="utf-8")
    return 0


async def _all(names: Sequence[str], folder: Path) -> list[Seen]:
    files = lab_certificates.made(folder / "clients", LABELS)
    variants = [read_variant(label, file.read_bytes(), label, None, now()) for label, file in files.items()]
    server, client = _credential(folder, "server"), _credential(folder, "client")
    found = []
    for name in names:
        print(f"matrix: {name}", file=sys.stderr, flush=True)
        try:
            found.append(await _one(name, server, client, folder / "clients" / "ca.pem", variants))
        except ServerError as error:
            print(f"matrix: {name}: {error}", file=sys.stderr)
        except TimeoutError:
            print(f"matrix: {name}: it sent nothing to the listener", file=sys.stderr)
    return found


async def _one(name: str, server: Credential, client: Credential, ca: Path, variants: Sequence[Variant]) -> Seen:
    version = await asyncio.to_thread(VERSIONS[name])
    seen = Seen(name, version.version, version.library, await server_cells(name, server, ca, variants))
    alone, told = await presented(name, server, None), await presented(name, server, client)
    return replace(
        seen,
        presents_by_default=alone.as_client,
        presents_when_told=told.as_client,
        server_kept=alone.server_kept and told.server_kept,
    )


def _credential(folder: Path, role: str) -> Credential:
    """A certificate of a CA of its own for one role only, as files."""
    key = new_key()
    authority = Issued(make_ca(f"matrix {role} CA", key, now()), key)
    issued = make_leaf(Leaf(eku=f"{role}-only"), f"{role}.lab.test", authority, now())
    chain, private = folder / f"{role}.chain", folder / f"{role}.key"
    listed = (issued.certificate, *issued.above)
    chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in listed))
    private.touch(mode=0o600)
    private.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Credential(chain, private, tuple(one.public_bytes(Encoding.DER) for one in listed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
