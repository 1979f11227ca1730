"""The composition root of `mxcensus listen`: sessions of peers in, a census of client certificates out."""

import asyncio
import hashlib
import json
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from mxcensus import __version__, classification
from mxcensus.steps import now
from scanner import certificates, names, operators, policy, software
from scanner.listener import ClientSession, Listener, ListenSettings, server_context
from scanner.records import Role
from scanner.trust import TrustSnapshot
from storage import reader
from storage.database import Database
from storage.writer import Writer

MAX_CERTIFICATES = 100_000
"""Distinct certificates that one run stores: a peer can make new ones for ever."""


@dataclass(slots=True)
class Tally:
    """What a run has seen, in numbers; `eku` and `hierarchy` count distinct end entity certificates by class."""

    scan: int
    sessions: int = 0
    with_tls: int = 0
    with_certificate: int = 0
    not_stored: int = 0
    turned_away: int = 0
    eku: dict[str, int] = field(default_factory=dict)
    hierarchy: dict[str, int] = field(default_factory=dict)


class SessionLog:
    """A JSON line a session; lines older than `days` are dropped when it is opened, the rest is appended to."""

    def __init__(self, file: Path, days: int, at: datetime) -> None:
        oldest = (at - timedelta(days=days)).isoformat()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        kept = [line for line in lines if json.loads(line)["started_at"] >= oldest]
        file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = file

    def write(self, session: ClientSession) -> None:
        fields = asdict(session)
        fields["started_at"] = session.started_at.isoformat()
        fields["certificate_list"] = [hashlib.sha256(der).hexdigest() for der in session.certificate_list]
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(fields) + "\n")


def context_for(certificate: Path | None, name: str) -> SSL.Context:
    """The server's side of TLS: from a file, or self-made for a lab."""
    if certificate is not None:
        return server_context(certificate.read_bytes(), str(certificate))
    return server_context(_self_made(name), "self-made")


def _self_made(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    begin = datetime.now(UTC) - timedelta(days=1)
    signed = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=90)).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return signed.public_bytes(pem) + secret


async def run(
    database: Database,
    trust: TrustSnapshot,
    settings: ListenSettings,
    context: SSL.Context,
    where: tuple[str, int],
    log: SessionLog | None = None,
) -> Tally:
    """Listen at (address, port) until SIGINT or SIGTERM, then classify what came."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    known: set[str] = set()

    async def record(session: ClientSession) -> None:
        tally.sessions += 1
        tally.with_tls += session.tls_version is not None
        tally.with_certificate += bool(session.certificate_list)
        if log is not None:
            log.write(session)
        try:
            for position, der in enumerate(session.certificate_list):
                await store(der, Role.CA if position else Role.CLIENT)
        except Exception:
            stop.set()  # storage has failed: what comes now would be lost
            raise

    async def store(der: bytes, role: Role) -> None:
        fact = f"{role.value}:{hashlib.sha256(der).hexdigest()}"
        if fact in known:
            return
        if len(known) >= MAX_CERTIFICATES:
            tally.not_stored += 1
            return
        known.add(fact)
        await writer.write_captured(certificates.parse(der), role)

    listener = Listener(settings, context, record, now)
    port = await listener.start(*where)
    try:
        scan = await database.new_scan(
            label="listen",
            started_at=now(),
            tool_version=__version__,
            rules_version=policy.RULES_VERSION,
            trust_id=trust.id,
            seed=0,
            settings={"kind": "listen", "address": where[0], "port": port, **asdict(settings)},
        )
        tally = Tally(scan)
        writer = Writer(
            database,
            scan,
            seed=0,
            operator_of=operators.operator,
            software_of=software.of_observation,
            ca_name_text=names.name_text,
        )
        await listener.serve()
        print(f"scan {scan}: listening on {where[0]} port {port}", file=sys.stderr, flush=True)
        async with writer:
            await stop.wait()
            await listener.stop()
    finally:
        await listener.stop()
    if listener.failure is not None:
        raise listener.failure
    tally.turned_away = listener.turned_away
    await asyncio.to_thread(classification.classify_scan, database, scan, trust)
    await asyncio.to_thread(_count_classes, database, tally)
    await database.set_state(scan, "finished", now())
    return tally


def _count_classes(database: Database, tally: Tally) -> None:
    clients = [row for row in reader.certificates(database, tally.scan) if row["role"] == Role.CLIENT.value]
    tally.eku = dict(Counter(str(row["eku_class"]) for row in clients))
    tally.hierarchy = dict(Counter(str(row["hierarchy"]) for row in clients))
