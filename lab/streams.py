"""TLS of which every record passes through our hands: cut into octets, or written by ourselves."""

import contextlib
import hashlib
import socket
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

ALERT, HANDSHAKE, TEXT = 21, 22, 23
"""Content types of records (RFC 8446 section 5.1)."""

RECORD = 16384


class Memory:
    """A server's TLS on a memory BIO; `connection` is OpenSSL's side of it, `sock` the client's."""

    def __init__(self, connection: SSL.Connection, sock: socket.socket) -> None:
        self._connection = connection
        self._sock = sock

    def do_handshake(self) -> None:
        while True:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                self._sock.sendall(self._output())
                self._fill()
            else:
                self._finish()
                return

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)
        self._sock.sendall(self._output())

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._connection.recv(size)
            except SSL.WantReadError:
                self._fill()

    def renegotiate(self) -> None:
        """Say HelloRequest, and take up whatever comes back as any other record (RFC 5246 section 7.4.1.1)."""
        self._connection.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            self._connection.do_handshake()
        self._sock.sendall(self._output())

    def _finish(self) -> None:
        """The handshake is done; what OpenSSL has still to say of it goes out."""
        self._sock.sendall(self._output())

    def _fill(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError
        self._connection.bio_write(data)

    def _output(self) -> bytes:
        parts = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                parts.append(self._connection.bio_read(65536))
        return b"".join(parts)


class Chopped(Memory):
    """Its records leave one octet at a time."""

    def do_handshake(self) -> None:
        self._sock = _Octets(self._sock)  # type: ignore[assignment]  # all of a socket that is used here
        super().do_handshake()


class _Octets:
    """A socket that sends every octet as a packet of its own."""

    def __init__(self, sock: socket.socket) -> None:
        self.recv = sock.recv
        self._send = sock.sendall

    def sendall(self, data: bytes) -> None:
        for octet in data:
            self._send(bytes([octet]))


class Sealed(Memory):
    """TLS 1.3 whose records after the handshake are sealed here, and can be anything (RFC 8446 section 5.2).

    OpenSSL shakes hands and reads what the client says; what it would say itself, session tickets say, is dropped.
    """

    def do_handshake(self) -> None:
        self._secret = b""
        self._connection.set_app_data(self)
        super().do_handshake()

    @staticmethod
    def prepare(context: SSL.Context) -> None:
        """Set up the context of connections that are going to be sealed: one version, one suite, secrets told."""
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        context.set_keylog_callback(_tell)

    def learn(self, secret: bytes) -> None:
        """Seal with the keys of a traffic secret from now on (section 7.3)."""
        self._secret, self._number = secret, 0
        self._key = AESGCM(self._expand(b"key", 16))
        self._iv = int.from_bytes(self._expand(b"iv", 12))

    def sendall(self, data: bytes) -> None:
        for start in range(0, len(data), RECORD):
            self._sock.sendall(self.record(TEXT, data[start : start + RECORD]))

    def record(self, kind: int, payload: bytes) -> bytes:
        """The next record of the server, of whatever type and content."""
        header = bytes([TEXT, 3, 3]) + (len(payload) + 17).to_bytes(2)
        nonce = (self._iv ^ self._number).to_bytes(12)
        self._number += 1
        return header + self._key.encrypt(nonce, payload + bytes([kind]), header)

    def key_update(self) -> bytes:
        """The record that says so, behind which the next keys hold (sections 4.6.3, 7.2)."""
        said = self.record(HANDSHAKE, b"\x18\x00\x00\x01\x00")
        self.learn(self._expand(b"traffic upd", hashlib.sha256().digest_size))
        return said

    def _finish(self) -> None:
        self._output()

    def _expand(self, label: bytes, length: int) -> bytes:
        info = struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
        return HKDFExpand(hashes.SHA256(), length, info).derive(self._secret)


def _tell(connection: SSL.Connection, line: bytes) -> None:
    label, _, secret = line.split()
    if label == b"SERVER_TRAFFIC_SECRET_0":
        connection.get_app_data().learn(bytes.fromhex(secret.decode()))
