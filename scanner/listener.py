"""The client side, seen from a server: an SMTP server that asks for a client certificate and takes no mail.

    connect -> greeting -> EHLO -> STARTTLS -> handshake (certificate asked for) -> MAIL: 450 -> QUIT

TLS runs on a memory BIO, as in `scanner.tls`, since pyOpenSSL gives the whole certificate_list. Nothing is verified
but that the peer has the key. Mail is refused with a 4xx that names the contact. Everything that a peer can make
grow is bounded, and its address is kept as a prefix only (/24, /48).
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from scanner.addresses import network_prefix
from scanner.suites import suite_name

MAX_LINE = 2048  # RFC 5321 section 4.5.3.1.4 asks for 512, extensions add to it
MAX_COMMANDS = 30
MAX_RECEIVED = 512 * 1024
MAX_LIST = 20
READ_BYTES = 16 * 1024
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class BadCertificate(ValueError):
    """The certificate or key for our own side cannot be used; the message is one line."""


class SessionOver(Exception):
    """Carries why a session cannot go on out of whatever was reading."""


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Sessions at once from one prefix, and in all; `timeout` is a whole session's, in seconds."""

    name: str
    contact: str
    per_address: int = 4
    max_connections: int = 200
    timeout: float = 60


def server_context(pem: bytes, source: str) -> SSL.Context:
    """A context that asks for a client certificate; `pem` has our certificates and key. Raises `BadCertificate`."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        own, *others = x509.load_pem_x509_certificates(pem)
        context.use_certificate(own)
        for other in others:
            context.add_extra_chain_cert(other)
        context.use_privatekey(load_pem_private_key(_key_in(pem), None))  # type: ignore[arg-type]  # OpenSSL judges
        context.check_privatekey()
    except (SSL.Error, ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCertificate(f"{source}: not PEM with a certificate and its unencrypted key") from None
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # a resumed session presents no certificate
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


def _key_in(pem: bytes) -> bytes:
    """The block of the private key, wherever it stands in the file."""
    found = _KEY.search(pem)
    return found[0] if found else b""


def prefix(address: str) -> str:
    """The /24 or /48 that an address is in; all that is kept of a peer's address."""
    return network_prefix(address.partition("%")[0])


@dataclass(frozen=True, slots=True)
class ClientSession:
    """One session of a peer with us: facts only. `prefix` is /24 or /48; `ended` says in a word how it ended.

    `certificate_list` holds DER as presented, the end entity certificate first, empty where the peer had none;
    the TLS fields are None where the handshake was not completed.
    """

    started_at: datetime
    prefix: str
    ehlo_name: str | None
    tls_version: str | None
    cipher_suite: str | None
    certificate_list: tuple[bytes, ...]
    ended: str


@dataclass(slots=True)
class _Channel:
    """Lines in and replies out over one connection, in clear and then under TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tls: SSL.Connection | None = None
    received: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    async def line(self) -> str:
        """The next line without its end; raises `SessionOver`."""
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > MAX_LINE:
                raise SessionOver("line too long")
            self.buffer += await self._read()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        if len(line) > MAX_LINE:
            raise SessionOver("line too long")
        return line.decode("ascii", "replace").strip()

    async def reply(self, code: int, *lines: str) -> None:
        marked = [f"{code}{' ' if last else '-'}{line}" for line, last in zip(lines, _lasts(lines), strict=True)]
        data = "".join(f"{line}\r\n" for line in marked).encode("ascii", "replace")
        if self.tls is None:
            self.writer.write(data)
            await self.writer.drain()
        else:
            self.tls.send(data)
            await self._flush()

    async def start_tls(self, context: SSL.Context) -> None:
        """Shake hands; raises `SessionOver` with the reason. What came in clear before it is never believed."""
        if self.buffer:
            raise SessionOver("plain text after STARTTLS")
        self.tls = SSL.Connection(context, None)
        self.tls.set_accept_state()
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self._flush()
                self.tls.bio_write(await self._octets())
            except SSL.Error:
                await self._flush()  # our alert
                raise SessionOver("handshake failed") from None
            else:
                await self._flush()
                return

    async def _read(self) -> bytes:
        while self.tls is not None:
            try:
                return self.tls.recv(READ_BYTES)
            except SSL.WantReadError:
                self.tls.bio_write(await self._octets())
            except SSL.Error:
                raise SessionOver("closed") from None
        return await self._octets()

    async def _octets(self) -> bytes:
        data = await self.reader.read(READ_BYTES)
        self.received += len(data)
        if not data or self.received > MAX_RECEIVED:
            raise SessionOver("too much" if data else "closed")
        return data

    async def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while self.tls is not None and (data := self.tls.bio_read(READ_BYTES)):
                self.writer.write(data)
        await self.writer.drain()

    def certificate_list(self) -> tuple[bytes, ...]:
        """DER as presented. OpenSSL's list of a server's peer begins after the end entity certificate."""
        leaf = self.tls.get_peer_certificate() if self.tls else None
        if self.tls is None or leaf is None:
            return ()
        listed = [leaf, *(self.tls.get_peer_cert_chain() or ())]
        return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in listed[:MAX_LIST])


def _lasts(lines: tuple[str, ...]) -> list[bool]:
    return [False] * (len(lines) - 1) + [True]


class Listener:
    """Serves until cancelled; `record` gets a `ClientSession` for every connection that was let in."""

    def __init__(
        self,
        settings: ListenSettings,
        context: SSL.Context,
        record: Callable[[ClientSession], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._context = context
        self._record = record
        self._now = now
        self._open: Counter[str] = Counter()  # sessions by prefix, at most max_connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.turned_away = 0
        self.failure: Exception | None = None

    async def start(self, address: str, port: int) -> int:
        """Bind, and return the port; `serve` is what lets peers in. Raises OSError."""
        self._server = await asyncio.start_server(
            self._accept, address, port, limit=READ_BYTES, start_serving=False
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def serve(self) -> None:
        """Let peers in; `start` came before."""
        if self._server is not None:
            await self._server.start_serving()

    async def stop(self) -> None:
        """Take no more, end what is open; sessions that have begun are recorded."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        came_from = prefix(peer[0]) if peer else ""
        limits = self._settings
        if not peer or self._open.total() >= limits.max_connections or self._open[came_from] >= limits.per_address:
            self.turned_away += 1
            writer.write(f"421 4.7.0 {limits.name} too many connections; {limits.contact}\r\n".encode())
            writer.close()
            self._open += Counter()  # forget prefixes without a session
            return
        self._open[came_from] += 1
        task = asyncio.create_task(self._serve(_Channel(reader, writer), came_from))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, channel: _Channel, came_from: str) -> None:
        facts = _Facts()
        started, ended = self._now(), "quit"
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._converse(channel, facts)
        except SessionOver as over:
            ended = str(over)
        except TimeoutError:
            ended = "timeout"
        except (OSError, SSL.Error):
            ended = "reset"
        except asyncio.CancelledError:
            ended = "stopped"
        finally:
            self._open[came_from] -= 1
            self._open += Counter()
            channel.writer.transport.abort() if ended == "timeout" else channel.writer.close()
        session = ClientSession(started, came_from, facts.ehlo, facts.version, facts.suite, facts.presented, ended)
        try:
            await self._record(session)
        except Exception as error:  # noqa: BLE001  # storage has failed: whoever waits for us is told
            self.failure = self.failure or error

    async def _converse(self, channel: _Channel, facts: "_Facts") -> None:
        name = self._settings.name
        refusal = f"4.3.2 {name} takes no mail: it counts client certificates; {self._settings.contact}"
        await channel.reply(220, f"{name} ESMTP; takes no mail")
        for _ in range(MAX_COMMANDS):
            verb, _, rest = (await channel.line()).partition(" ")
            verb = verb.upper()
            if verb in {"EHLO", "HELO"}:
                facts.ehlo = rest.strip()[:255]
                offered = ("STARTTLS",) if channel.tls is None else ()
                await channel.reply(250, *((name, "ENHANCEDSTATUSCODES", *offered) if verb == "EHLO" else (name,)))
            elif verb == "STARTTLS" and channel.tls is None:
                await channel.reply(220, "2.0.0 go ahead")
                await self._handshake(channel, facts)
            elif verb in {"NOOP", "RSET"}:
                await channel.reply(250, "2.0.0 OK")
            elif verb == "QUIT":
                await channel.reply(221, "2.0.0 bye")
                return
            else:  # MAIL and all else: for now, never for good
                await channel.reply(450, refusal)
        await channel.reply(421, refusal)
        raise SessionOver("too many commands")

    async def _handshake(self, channel: _Channel, facts: "_Facts") -> None:
        await channel.start_tls(self._context)
        tls = channel.tls
        if tls is not None:
            suite = tls.get_cipher_name()
            facts.version = tls.get_protocol_version_name()
            facts.suite = suite_name(suite) if suite else None
            facts.presented = channel.certificate_list()


@dataclass(slots=True)
class _Facts:
    """What one session has shown so far."""

    ehlo: str | None = None
    version: str | None = None
    suite: str | None = None
    presented: tuple[bytes, ...] = ()
