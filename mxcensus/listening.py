"""The composition root of `mxcensus listen`: sessions of peers in, a census of client certificates out."""

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
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
from scanner.records import Role, Sighting
from scanner.trust import TrustSnapshot
from storage import reader, sightings
from storage.database import Database
from storage.writer import Writer

MAX_CERTIFICATES = 100_000
"""Distinct certificates that one run stores: a peer can make new ones for ever."""
MAX_SESSIONS = 10_000_000
"""Sessions that one run stores."""
FORGET_SECONDS = 3600.0
"""How often what is older than its retention is looked for."""


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
    """A JSON line a session, appended to a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def forget(self, before: datetime) -> None:
        """Drop the lines of sessions that began before this time."""
        oldest, file = before.isoformat(), self._file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        kept = [line for line in lines if json.loads(line)["started_at"] >= oldest]
        file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

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
    retention: timedelta,
    log: SessionLog | None = None,
) -> Tally:
    """Listen at (address, port) until SIGINT or SIGTERM, then classify what came.

    Who the peers were is forgotten when `retention` is over: in the database, of earlier runs too, and in `log`.
    """
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
            if tally.sessions <= MAX_SESSIONS and await store(session.certificate_list):
                await writer.write(_sighting(tally.sessions, session))
            else:
                tally.not_stored += 1
        except Exception:
            stop.set()  # storage has failed: what comes now would be lost
            raise

    async def store(listed: Sequence[bytes]) -> bool:
        """Store the certificates of a list that are new; False where that would be too many."""
        fresh = {hashlib.sha256(der).hexdigest(): der for der in listed}
        fresh = {sha256: der for sha256, der in fresh.items() if sha256 not in known}
        if len(known) + len(fresh) > MAX_CERTIFICATES:
            return False
        known.update(fresh)
        for der in fresh.values():
            await writer.write(certificates.parse(der))
        return True

    await _forget(database, log, retention)
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
            ca_name_text=names.shown,
        )
        await listener.serve()
        print(f"scan {scan}: listening on {where[0]} port {port}", file=sys.stderr, flush=True)
        async with writer:
            while not await _happens(stop, FORGET_SECONDS):
                await _forget(database, log, retention)
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


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False when it does not happen in that time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def _forget(database: Database, log: SessionLog | None, retention: timedelta) -> None:
    before = now() - retention
    await database.run(partial(sightings.forget_sessions, before=before))
    if log is not None:
        log.forget(before)


def _sighting(number: int, session: ClientSession) -> Sighting:
    return Sighting(
        number,
        Role.CLIENT,
        tuple(hashlib.sha256(der).hexdigest() for der in session.certificate_list),
        day=session.started_at.date(),
        required=False if session.certificate_list else None,  # we ask, and never insist
        seen_at=session.started_at,
        prefix=session.prefix,
        ehlo_name=session.ehlo_name,
        tls_version=session.tls_version,
        cipher_suite=session.cipher_suite,
        ended=session.ended,
    )


def _count_classes(database: Database, tally: Tally) -> None:
    clients = [row for row in reader.certificates(database, tally.scan) if row["role"] == Role.CLIENT.value]
    tally.eku = dict(Counter(str(row["eku_class"]) for row in clients))
    tally.hierarchy = dict(Counter(str(row["hierarchy"]) for row in clients))
