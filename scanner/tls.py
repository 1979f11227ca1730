"""TLS as facts: one handshake on a memory BIO, everything that the server shows kept.

pyOpenSSL's public interface gives the whole certificate_list, version, cipher suite, group, and whether and with
which names a CertificateRequest came, on TLS 1.0 to 1.3. Nothing is verified: what is presented is what is counted.
`TlsLayer` stands between the socket and the SMTP protocol; to the protocol it looks like a transport.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from OpenSSL import SSL, crypto

from scanner.dialogue import Dialogue, Ending, lost
from scanner.handshake_records import MAX_KEPT, Request, certificates_in, request_in
from scanner.records import Failure
from scanner.suites import group_name, suite_name

T = TypeVar("T")

VERSIONS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})

CIPHERS = b"ALL:COMPLEMENTOFALL:!aNULL:!PSK:!SRP:@SECLEVEL=0"
"""Every suite with which a server shows a certificate, the broken ones too: we keep no secret in these sessions."""

KEY_TYPE_CIPHERS = {"rsa": b"aRSA:@SECLEVEL=0", "ec": b"aECDSA:@SECLEVEL=0"}
"""Suites that a server can only choose with a certificate of this key type; up to TLS 1.2, where suites say so."""

OPTIONS = SSL.OP_LEGACY_SERVER_CONNECT | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION
"""Servers without secure renegotiation (RFC 5746) are servers too; we resume nothing and shake hands once."""

READ_BYTES = 16 * 1024
MAX_RECEIVED = 4 * 1024 * 1024
"""OpenSSL bounds each handshake message by itself (100 KB for certificates and CA names); this bounds a session."""

MAX_PLAINTEXT = 4096

_REQUEST_STATE = b"SSLv3/TLS read server certificate request"
_FINISHED_STATE = b"SSLv3/TLS write finished"
_FATAL = 2
_HARMLESS = frozenset({0, 90})  # close_notify, user_canceled
_PLAINTEXT = bytes([*b"\t\r\n", *range(0x20, 0x7F)])
"""No TLS record begins with one of these octets (RFC 8446 section 5.1)."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What to present to a server that asks, for experiments; `certificate_list` begins with the end entity."""

    certificate_list: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes


def client_context(certificate: ClientCertificate | None = None, key_type: str | None = None) -> SSL.Context:
    """The context that all sessions share: every version and suite that OpenSSL still has, nothing verified.

    With a `key_type`, only what a server can answer with a certificate of that type (docs/decisions/0143). Raises
    `SSL.Error` where the key does not belong to the certificate.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(CIPHERS if key_type is None else KEY_TYPE_CIPHERS[key_type])
    if key_type is not None:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE, None)
    context.set_options(OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_info_callback(_note_state)
    if certificate is not None:
        context.use_certificate(certificate.certificate_list[0])
        context.use_privatekey(certificate.key)  # type: ignore[arg-type]  # OpenSSL itself says which keys it takes
        context.check_privatekey()
        for other in certificate.certificate_list[1:]:
            context.add_extra_chain_cert(other)
    return context


def _note_state(connection: SSL.Connection, where: int, value: int) -> None:
    """OpenSSL's own account of the handshake; the layer that it belongs to is the connection's app data."""
    if where & SSL.SSL_CB_LOOP:
        state = connection.get_state_string()
        if state == _REQUEST_STATE:
            connection.get_app_data().requested = True
        elif state == _FINISHED_STATE:
            connection.get_app_data().finished_sent = True
    elif where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT:
        connection.get_app_data().note_alert(value >> 8, value & 0xFF)


class TlsLayer(asyncio.Protocol, asyncio.Transport):
    """Below, a protocol on the socket's transport; above, the transport of the SMTP dialogue.

    `end` is set once TLS or the connection is over. `requested`: a CertificateRequest was seen. `finished_sent`:
    our Finished went out. `completed`: the handshake is done. `alert`: the number of the alert with which the
    server ended it. `injected`: the server sent plain text before its first TLS record. `octets_in`, `octets_out`:
    what the connection carried, from its beginning.
    """

    def __init__(self, context: SSL.Context, server_name: str | None, below: asyncio.Transport) -> None:
        asyncio.Transport.__init__(self)
        self.end: Ending | None = None
        self.requested = False
        self.finished_sent = False
        self.completed = False
        self.alert: int | None = None
        self.injected = False
        self.octets_in = 0
        self.octets_out = 0
        self._plaintext = 0
        self._tls_seen = False
        self._received = 0
        self._records = bytearray()  # of the handshake, as received
        self._request: Request | None = None
        self._early = b""  # decrypted before there was a dialogue to take it
        self._woken: asyncio.Future[None] | None = None
        self._below = below
        self._above: Dialogue | None = None
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self)
        self._connection.set_connect_state()
        if server_name is not None:
            self._connection.set_tlsext_host_name(server_name.encode())

    async def handshake(self, before: Dialogue) -> None:
        """Shake hands; returns once it is completed or has ended. The caller bounds it in time.

        `before` is the dialogue that got the 220. What it has not read came before anybody spoke TLS.
        """
        if before.end is None:
            self._below.set_protocol(self)
        unread = before.take_unread()
        self.octets_in, self.octets_out = before.octets_in - len(unread), before.octets_out
        self._advance()
        self._flush()
        if unread:
            self.data_received(unread)
        if before.end is not None:
            self.fail(before.end)
        if not self.completed and self.end is None:
            await self._wake()

    async def linger(self, seconds: float) -> None:
        """Give the server `seconds` in which to end the session."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.end is None:
                    await self._wake()

    def carry(self, above: Dialogue) -> None:
        """Be the transport of the dialogue from now on."""
        self._above = above
        above.transport = self
        if self._early:
            above.data_received(self._early)
        if self.end is not None:
            above.fail(self.end)

    def fail(self, end: Ending) -> None:
        """The session is over, from here down; the first end counts."""
        if self.end is None:
            if self.injected and not self._tls_seen:
                end = Ending(Failure.TLS_PROTOCOL, f"plain text instead of TLS, then: {end.detail}")
            self.end = end
            self._wake_up()
            if self._above is not None:
                self._above.fail(end)

    def release(self) -> None:
        """Drop what OpenSSL holds now, not when the garbage collector finds the circle that app data makes."""
        self._connection.set_app_data(None)
        self._above = None

    # ------------------------------------------------------------------------------------------ the facts

    def certificate_list(self) -> tuple[bytes, ...]:
        """DER as presented, in order, duplicates kept; also after a handshake that failed later.

        A list that OpenSSL cannot read ends the handshake. Up to TLS 1.2 it was not encrypted, and is read from the
        records.
        """
        chain = self._connection.get_peer_cert_chain()
        if chain is None:
            return certificates_in(self._records)
        return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in chain)

    def version(self) -> str | None:
        """IANA's name of the negotiated version."""
        name = self._connection.get_protocol_version_name()
        return name if name in VERSIONS else None

    def cipher_suite(self) -> str | None:
        """IANA's name of the cipher suite."""
        name = self._connection.get_cipher_name()
        return suite_name(name) if name else None

    def group(self) -> str | None:
        """IANA's name of the key exchange's group; None where the suite has none."""
        name = self._connection.get_group_name()
        return group_name(name) if name else None

    def client_ca_names(self) -> tuple[bytes, ...] | None:
        """DER of each name in the CertificateRequest; None where there was none."""
        if not self.requested:
            return None
        return tuple(name.der() for name in self._connection.get_client_ca_list())

    def request(self) -> Request | None:
        """Certificate types and signature algorithms of the CertificateRequest, up to TLS 1.2."""
        if self._request is None and self.requested:
            self._request = request_in(self._records, self.version())
        return self._request

    def note_alert(self, level: int, number: int) -> None:
        """The server sent an alert; keep those that end the session.

        Up to TLS 1.2 a warning (unrecognized_name, say) does not; in TLS 1.3 the level means nothing, and all do
        but two (RFC 8446 section 6). OpenSSL names the version before it is negotiated, but no suite.
        """
        is_tls13 = self.version() == "TLSv1.3" and self._connection.get_cipher_name() is not None
        if level == _FATAL or (is_tls13 and number not in _HARMLESS):
            self.alert = number

    # ------------------------------------------------------------------- below: what the connection does

    def data_received(self, data: bytes) -> None:
        self.octets_in += len(data)
        if self.end is not None:
            return
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            self.fail(Ending(Failure.TLS_PROTOCOL, f"more than {MAX_RECEIVED} octets"))
            return
        if not self._tls_seen:
            data = self._without_plaintext(data)
            if not data:
                return
        self._connection.bio_write(data)
        if self.completed:
            self._read()
        else:
            self._records += data[: MAX_KEPT - len(self._records)]
            self._advance()
        if self._above is not None or self.requested or not self.completed:
            self._flush()
        # Else our Finished waits for the EHLO that follows in this turn of the event loop: one packet, not two.

    def eof_received(self) -> bool:
        self.fail(lost(None))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(lost(exc))
        if self._above is not None:
            self._above.connection_lost(exc)

    # ---------------------------------------------------------------- above: what the SMTP protocol does

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._step(lambda: self._connection.send(bytes(data)))
        self._flush()

    def close(self) -> None:
        """close_notify, then close the connection."""
        if self.completed and self.end is None:
            self._step(self._connection.shutdown)
        self._flush()
        self._below.close()

    def abort(self) -> None:
        self._below.abort()

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.get_extra_info(name, default)

    # ------------------------------------------------------------------------------------------ the engine

    def _advance(self) -> None:
        def shake() -> bool:
            self._connection.do_handshake()
            return True

        if self._step(shake):
            self.completed = True
            self._request = self.request()
            self._records.clear()
            self._wake_up()
            self._read()  # a server may speak in the same packet as its Finished

    def _read(self) -> None:
        """Decrypt what there is and hand it up; an alert or close_notify ends the session."""
        while self.end is None and (data := self._step(lambda: self._connection.recv(READ_BYTES))):
            if self._above is not None:
                self._above.data_received(data)
            else:
                self._early = (self._early + data)[:MAX_KEPT]

    def _step(self, operation: Callable[[], T]) -> T | None:
        """One call of OpenSSL; what it raises becomes the end of the session."""
        try:
            return operation()
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.fail(Ending(Failure.CLOSED, "the server sent close_notify"))
        except SSL.Error as error:
            if self.alert is not None:
                self.fail(Ending(Failure.TLS_ALERT, f"TLS alert {self.alert} from the server: {_reason(error)}"))
            else:
                self.fail(Ending(Failure.TLS_PROTOCOL, _reason(error)))
        return None

    def _flush(self) -> None:
        """Send what OpenSSL wants to send, our own alerts included."""
        with contextlib.suppress(SSL.WantReadError):
            while not self._below.is_closing():
                data = self._connection.bio_read(READ_BYTES)
                self._below.write(data)
                self.octets_out += len(data)
                if len(data) < READ_BYTES:
                    return

    def _without_plaintext(self, data: bytes) -> bytes:
        """What is left of `data` from the first TLS record on, however the network has cut it."""
        rest = data.lstrip(_PLAINTEXT)
        self._plaintext += len(data) - len(rest)
        self.injected = self.injected or self._plaintext > 0
        self._tls_seen = bool(rest)
        if self._plaintext > MAX_PLAINTEXT:
            self.fail(Ending(Failure.TLS_PROTOCOL, "plain text instead of TLS"))
        return rest

    async def _wake(self) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken

    def _wake_up(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


def _reason(error: SSL.Error) -> str:
    """OpenSSL's words for what went wrong."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in queue) or type(error).__name__
