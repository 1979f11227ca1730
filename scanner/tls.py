"""TLS as facts: one handshake on a memory BIO, everything that the server shows kept.

pyOpenSSL's public interface gives the whole certificate_list, version, cipher suite, group, and whether and with
which names a CertificateRequest came, on TLS 1.0 to 1.3. Nothing is verified: what is presented is what is counted.
`TlsLayer` stands between the socket and the SMTP protocol; to the protocol it looks like a transport.
"""

import asyncio
import contextlib
from typing import Any

from OpenSSL import SSL, crypto

from scanner.dialogue import Dialogue, SessionEnd
from scanner.records import Failure
from scanner.suites import group_name, suite_name

VERSIONS = {"TLSv1": "TLSv1", "TLSv1.1": "TLSv1.1", "TLSv1.2": "TLSv1.2", "TLSv1.3": "TLSv1.3"}
CIPHERS = b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"
READ_BYTES = 64 * 1024
MAX_HANDSHAKE_BYTES = 4 * 1024 * 1024
"""OpenSSL bounds each handshake message by itself; this bounds their sum."""

_REQUEST_STATE = b"SSLv3/TLS read server certificate request"
_FINISHED_STATE = b"SSLv3/TLS write finished"
_CLOSE_NOTIFY = 0


def client_context(certificate: tuple[Any, Any, tuple[Any, ...]] | None = None) -> SSL.Context:
    """The context that all sessions share: every version and suite that OpenSSL still has, nothing verified.

    `certificate` is (end entity, key, other certificates) to present where a server asks, for experiments.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_verify(SSL.VERIFY_NONE, None)
    context.set_options(SSL.OP_LEGACY_SERVER_CONNECT | SSL.OP_NO_TICKET)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_info_callback(_note_state)
    if certificate is not None:
        end_entity, key, others = certificate
        context.use_certificate(end_entity)
        context.use_privatekey(key)
        for other in others:
            context.add_extra_chain_cert(other)
    return context


def _note_state(connection: SSL.Connection, where: int, value: int) -> None:
    """OpenSSL's own account of the handshake; the layer that it belongs to is the connection's app data."""
    layer = connection.get_app_data()
    if where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT:
        if value & 0xFF != _CLOSE_NOTIFY:
            layer.alert = value & 0xFF
    elif where & SSL.SSL_CB_LOOP:
        state = connection.get_state_string()
        if state == _REQUEST_STATE:
            layer.requested = True
        elif state == _FINISHED_STATE:
            layer.finished_sent = True


class TlsLayer(asyncio.Protocol, asyncio.Transport):
    """Below, a protocol on the socket's transport; above, the transport of the SMTP dialogue.

    `alert` is the number of the last alert that the server sent; `end` is set once TLS or the connection is over.
    `heard` is set by the first bytes after the handshake, or by the end.
    """

    def __init__(self, context: SSL.Context, server_name: str | None, below: asyncio.Transport) -> None:
        asyncio.Transport.__init__(self)
        self.alert: int | None = None
        self.requested = False
        self.finished_sent = False
        self.completed = False
        self.end: SessionEnd | None = None
        self.received = 0
        self.heard = asyncio.Event()
        self._below = below
        self._above: Dialogue | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self)
        self._connection.set_connect_state()
        if server_name is not None:
            self._connection.set_tlsext_host_name(server_name.encode())

    async def handshake(self) -> None:
        """Shake hands; returns once it is completed or has ended. The caller bounds it in time."""
        self._below.set_protocol(self)
        self._advance()
        await self._done

    def carry(self, above: Dialogue) -> None:
        """Be the transport of the dialogue from now on."""
        self._above = above
        above.transport = self
        if self.end is not None:
            above.fail(self.end)
        self._read()

    # ------------------------------------------------------------------------------------------ the facts

    def certificate_list(self) -> tuple[bytes, ...]:
        """DER as presented, in order, duplicates kept; also after a handshake that failed later."""
        chain = self._connection.get_peer_cert_chain() or ()
        return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in chain)

    def version(self) -> str | None:
        """IANA's name of the negotiated version."""
        return VERSIONS.get(self._connection.get_protocol_version_name())

    def cipher_suite(self) -> str | None:
        name = self._connection.get_cipher_name()
        return suite_name(name) if name else None

    def group(self) -> str | None:
        """The key exchange's named group; None where the suite has none."""
        name = self._connection.get_group_name()
        return group_name(name) if name else None

    def client_ca_names(self) -> tuple[bytes, ...] | None:
        """DER of each name in the CertificateRequest; None where there was none."""
        if not self.requested:
            return None
        return tuple(name.der() for name in self._connection.get_client_ca_list())

    # ------------------------------------------------------------------- below: what the connection does

    def data_received(self, data: bytes) -> None:
        if self.end is not None:
            return
        self.received += len(data)
        self._connection.bio_write(data)
        if self.completed:
            self.heard.set()
            self._read()
        elif self.received > MAX_HANDSHAKE_BYTES:
            self._over(Failure.TLS_PROTOCOL, "a handshake of more than 4 MB")
        else:
            self._advance()

    def eof_received(self) -> bool:
        self._over(Failure.CLOSED, "the connection was closed")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._over(Failure.CLOSED if exc is None else Failure.RESET, str(exc or "the connection was closed"))
        if self._above is not None:
            self._above.connection_lost(exc)

    # ---------------------------------------------------------------- above: what the SMTP protocol does

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._connection.send(bytes(data))
        except SSL.Error as error:
            self._broken(error)
        self._flush()

    def close(self) -> None:
        """close_notify, then close the connection."""
        if self.completed and self.end is None and not self._below.is_closing():
            with contextlib.suppress(SSL.Error):
                self._connection.shutdown()
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
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
        except SSL.Error as error:
            self._broken(error)
        else:
            self.completed = True
            self._flush()
            self._settle()

    def _read(self) -> None:
        """Decrypt what there is and hand it up; an alert or close_notify ends the session."""
        while self.end is None:
            try:
                data = self._connection.recv(READ_BYTES)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._over(Failure.CLOSED, "the server sent close_notify")
            except SSL.Error as error:
                self._broken(error)
            else:
                if self._above is not None:
                    self._above.data_received(data)
        self._flush()

    def _flush(self) -> None:
        while not self._below.is_closing():
            try:
                self._below.write(self._connection.bio_read(READ_BYTES))
            except SSL.WantReadError:
                return

    def _broken(self, error: SSL.Error) -> None:
        """OpenSSL gave up: because of the server's alert, or because what came is not TLS."""
        self._flush()  # our own alert, where there is one
        if self.alert is not None:
            self._over(Failure.TLS_ALERT, f"the server sent TLS alert {self.alert}")
        else:
            self._over(Failure.TLS_PROTOCOL, _reason(error))

    def _settle(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _over(self, failure: Failure, detail: str) -> None:
        if self.end is None:
            self.end = SessionEnd(failure, detail)
            self.heard.set()
            self._settle()
            if self._above is not None:
                self._above.fail(self.end)


def _reason(error: SSL.Error) -> str:
    """OpenSSL's words for what went wrong."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in queue) or type(error).__name__
