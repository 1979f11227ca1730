"""Scripted SMTP servers on port 0: real sockets, real TLS by pyOpenSSL, any misbehaviour.

A script is a function of a `Peer`, run in a thread of its own for each connection; when it returns, the connection
is closed. Every wait on the server's side is bounded by `PATIENCE` seconds.
"""

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

PATIENCE = 5.0
GREETING = b"220 mx.test ESMTP ready\r\n"
EHLO = b"250-mx.test at your service\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n"
GO_AHEAD = b"220 2.0.0 go ahead\r\n"
EHLO_AFTER = b"250-mx.test\r\n250 8BITMIME\r\n"
BYE = b"221 2.0.0 bye\r\n"

VERSIONS = {
    "TLSv1": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}


# ---------------------------------------------------------------------------------------------- certificates


def make_certificate(name="mx.test", *, extensions=(), key=None):
    """A self-signed certificate; returns (certificate, key)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=30))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()), key


@cache
def ecdsa_certificate():
    return make_certificate()


@cache
def rsa_certificate():
    return make_certificate(key=rsa.generate_private_key(65537, 2048))


def server_context(version=None, *, ask=False, require=False, certificates=None, ca_names=(), ciphers=b"ALL"):
    """A server's context. `certificates` is (end entity, key, *others); `ca_names` are certificates' subjects."""
    certificate, key, *others = certificates or ecdsa_certificate()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(ciphers + b":@SECLEVEL=0")
    context.set_min_proto_version(SSL.TLS1_VERSION)
    if version is not None:
        context.set_max_proto_version(VERSIONS[version])
    context.use_certificate(certificate)
    context.use_privatekey(key)
    for other in others:
        context.add_extra_chain_cert(other)
    for authority in ca_names:
        context.add_client_ca(authority)
    if ask or require:
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require else 0)
        context.set_verify(mode, lambda *_: True)
    context.set_session_id(b"fake")
    context.set_keylog_callback(_note_secret)
    return context


def _note_secret(connection, line):
    label, _, secret = line.split()
    if label == b"SERVER_TRAFFIC_SECRET_0":
        connection.get_app_data().secret = bytes.fromhex(secret.decode())


# ------------------------------------------------------------------------------------------------ the server


class Peer:
    """One connection as the script sees it; `received` has the commands, `left` how the client went."""

    def __init__(self, sock):
        self.sock = sock
        self.received = []
        self.left = None
        self.secret = None
        self.bytewise = False  # cut everything into octets
        self.sent = 0
        self.budget = None  # how many octets may be sent in all; then the script ends
        self._tls = None
        self._buffer = b""
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, data, *, bytewise=False):
        if self._tls is not None:
            self._tls.sendall(data)
            data = self._output()
        self.say_raw(data, bytewise=bytewise)

    def say_raw(self, data, *, bytewise=False):
        """Past TLS."""
        if self.budget is not None:
            data = data[: self.budget - self.sent]
        self.sent += len(data)
        if bytewise or self.bytewise:
            for octet in data:
                self.sock.sendall(bytes([octet]))
        else:
            self.sock.sendall(data)
        if self.sent == self.budget:
            raise ConnectionAbortedError

    def hear(self):
        """The next command; "" once the client is gone."""
        while b"\n" not in self._buffer:
            if not self._more():
                return ""
        line, self._buffer = self._buffer.split(b"\n", 1)
        self.received.append(line.decode("latin-1").strip())
        return self.received[-1]

    def read(self, size=65536):
        """Bytes as they come, from the socket."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return self.sock.recv(size)

    def until_starttls(self, greeting=GREETING, ehlo=EHLO, go_ahead=GO_AHEAD):
        self.say(greeting)
        self.hear()
        self.say(ehlo)
        self.hear()
        self.say(go_ahead)

    def tls(self, context, *, last_flight=True):
        """Shake hands. Without `last_flight` what the server sends to finish is kept back and returned."""
        tls = SSL.Connection(context, None)
        tls.set_app_data(self)
        tls.set_accept_state()
        while True:
            tls.bio_write(self.read() or self._gone())
            try:
                tls.do_handshake()
            except SSL.WantReadError:
                self.say_raw(self._output(tls))
            except SSL.Error:
                self.say_raw(self._output(tls))  # the alert
                raise
            else:
                self._tls = tls
                last = self._output()
                if last_flight and last:
                    self.say_raw(last)
                return last

    def rest(self, ehlo=EHLO_AFTER):
        """What a well-behaved server does after the handshake."""
        self.hear()
        self.say(ehlo)
        if self.hear() == "QUIT":
            self.say(BYE)
        self.hear()

    def peer_chain(self):
        """DER of what the client presented."""
        chain = self._tls.get_peer_cert_chain(as_cryptography=True) or []
        first = self._tls.get_peer_certificate(as_cryptography=True)
        return [one.public_bytes(Encoding.DER) for one in (first, *chain)]

    def renegotiate(self):
        self._tls.renegotiate()
        with suppress(SSL.WantReadError):
            self._tls.do_handshake()
        self.say_raw(self._output())

    def close_notify(self):
        self._tls.shutdown()
        self.sock.sendall(self._output())

    def alert_tls13(self, number, level=2):
        """An alert, the first record under the server's application key (RFC 8446 sections 5.2, 7.3)."""

        def expand(label, length):
            info = struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
            return HKDFExpand(hashes.SHA256(), length, info).derive(self.secret)

        header = bytes([23, 3, 3, 0, 3 + 16])
        sealed = AESGCM(expand(b"key", 16)).encrypt(expand(b"iv", 12), bytes([level, number, 21]), header)
        self.sock.sendall(header + sealed)

    def reset(self):
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        """Close with FIN, whatever the client still says: what is unread would make it a RST."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.silence()
        self.sock.close()

    def silence(self):
        """Say nothing until the client goes."""
        with suppress(OSError):
            while self.sock.recv(65536):
                pass

    def _more(self):
        """Wait for more of the client's text; False once it is gone."""
        if self._tls is None:
            data = self.sock.recv(65536)
            self._buffer += data
            return bool(data)
        while True:
            try:
                self._buffer += self._tls.recv(65536)
            except SSL.ZeroReturnError:
                self.left = "close_notify"
                return False
            except SSL.WantReadError:
                data = self.sock.recv(65536)
                if not data:
                    return False
                self._tls.bio_write(data)
            else:
                return True

    def _output(self, tls=None):
        parts = []
        with suppress(SSL.WantReadError):
            while True:
                parts.append((tls or self._tls).bio_read(65536))
        return b"".join(parts)

    @staticmethod
    def _gone():
        raise ConnectionAbortedError


@contextmanager
def serving(script):
    """Serve `script(peer)`; yields (port, peers). An unexpected exception of a script is raised at the end."""
    peers, threads, surprises = [], [], []
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(peer):
        try:
            script(peer)
        except (OSError, SSL.Error):
            pass  # the client went first
        except Exception as error:  # noqa: BLE001
            surprises.append(error)
        finally:
            peer.close()

    def accept():
        with suppress(OSError):
            while True:
                peers.append(Peer(listener.accept()[0]))
                threads.append(threading.Thread(target=handle, args=(peers[-1],), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1], peers
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
    if surprises:
        raise surprises[0]


# ------------------------------------------------------------- a TLS 1.2 handshake of the server's own writing


def record(kind, payload):
    """`payload` in as many records as it needs."""
    pieces = [payload[i : i + 16384] for i in range(0, len(payload), 16384)]
    return b"".join(bytes([kind, 3, 3]) + struct.pack("!H", len(piece)) + piece for piece in pieces)


def message(kind, body):
    return bytes([kind]) + len(body).to_bytes(3) + body


def vector24(items):
    body = b"".join(len(item).to_bytes(3) + item for item in items)
    return len(body).to_bytes(3) + body


def server_hello():
    """TLS 1.2 with TLS_RSA_WITH_AES_128_CBC_SHA, which needs no ServerKeyExchange."""
    return message(2, b"\x03\x03" + bytes(range(32)) + b"\x00" + b"\x00\x2f" + b"\x00")


def certificate_message(ders):
    return message(11, vector24(ders))


def certificate_request(names):
    """rsa_sign and ecdsa_sign, RSA and ECDSA with SHA-256, and the names' DER."""
    listed = b"".join(struct.pack("!H", len(name)) + name for name in names)
    return message(13, b"\x02\x01\x40" + b"\x00\x04\x04\x01\x04\x03" + struct.pack("!H", len(listed)) + listed)


HELLO_DONE = message(14, b"")
