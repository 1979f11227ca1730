"""One connection from the server's side: lines said and heard, TLS, and what was seen of the client."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from OpenSSL import SSL

from lab.hosts import LabHost
from lab.streams import Memory

GREETINGS = {
    "postfix": "220 {host} ESMTP Postfix",
    "exim": "220 {host} ESMTP Exim 4.98 Tue, 24 Nov 2026 10:00:00 +0000",
    "sendmail": "220 {host} ESMTP Sendmail 8.18.1/8.18.1; Tue, 24 Nov 2026 10:00:00 GMT",
    "exchange": "220 {host} Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026 10:00:00 +0000",
}
KEYWORDS = {
    "postfix": ("PIPELINING", "SIZE 10240000", "ETRN", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"),
    "exim": ("SIZE 52428800", "LIMITS MAILMAX=1000", "8BITMIME", "PIPELINING", "PIPECONNECT", "STARTTLS", "HELP"),
    "sendmail": ("ENHANCEDSTATUSCODES", "PIPELINING", "EXPN", "VERB", "8BITMIME", "STARTTLS", "DELIVERBY", "HELP"),
    "exchange": ("SIZE 37748736", "PIPELINING", "DSN", "STARTTLS", "8BITMIME", "BINARYMIME", "CHUNKING"),
}
FAREWELL = 2.0
"""Seconds that a server waits for the client to close, after it closed its own side."""


@dataclass(slots=True)
class Visit:
    """One connection as the server saw it; times are monotonic seconds, octets those of SMTP, not of TLS."""

    address: str
    peer: str
    began: float
    ended: float | None = None
    server_name: str | None = None
    tls_version: str | None = None
    commands: list[str] = field(default_factory=list)
    heard: int = 0
    said: int = 0


M = TypeVar("M", bound=Memory)


class Over(Exception):  # the end of a script, not an error
    """The client has gone, or the script is done."""


class Talk:
    """One connection. Every method that speaks or listens raises `Over` when the client is gone."""

    def __init__(self, sock: socket.socket, host: LabHost, visit: Visit) -> None:
        self.host = host
        self._sock = sock
        self._stream: socket.socket | SSL.Connection | Memory = sock
        self._visit = visit
        self._buffer = b""
        self._reset = False

    def say(self, *lines: str) -> None:
        self.say_raw("".join(f"{line}\r\n" for line in lines).encode())

    def say_raw(self, data: bytes) -> None:
        """Octets as they are."""
        self._visit.said += len(data)
        try:
            self._stream.sendall(data)
        except (OSError, SSL.Error) as error:
            raise Over from error

    def say_past_tls(self, data: bytes) -> None:
        """Octets as they are, on the connection itself."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Over from error

    def hear(self) -> str:
        """The next command."""
        while b"\n" not in self._buffer:
            try:
                data = self._stream.recv(4096)
            except (OSError, SSL.Error) as error:
                raise Over from error
            if not data:
                raise Over
            self._visit.heard += len(data)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        command = line.decode("ascii", "replace").strip()
        self._visit.commands.append(command)
        return command

    def pause(self, seconds: float) -> None:
        """Rest while the client has nothing to say; what arrives then is its leaving, noticed at once."""
        arriving = select.poll()
        arriving.register(self._sock, select.POLLIN)
        if arriving.poll(seconds * 1000):
            raise Over

    def start_tls(self, context: SSL.Context) -> None:
        self._shake_hands(SSL.Connection(context, self._sock))

    def start_tls_by_hand(self, context: SSL.Context, kind: Callable[[SSL.Connection, socket.socket], M]) -> M:
        """TLS whose records pass through a stream of ours."""
        connection = SSL.Connection(context, None)
        stream = kind(connection, self._sock)
        self._shake_hands(connection, stream)
        return stream

    def _shake_hands(self, connection: SSL.Connection, memory: Memory | None = None) -> None:
        connection.set_accept_state()
        stream = memory or connection
        try:
            stream.do_handshake()
        except (OSError, SSL.Error) as error:
            raise Over from error
        finally:
            name = connection.get_servername()
            self._visit.server_name = None if name is None else name.decode("ascii", "replace")
        self._visit.tls_version = connection.get_protocol_version_name()
        self._stream = stream

    def reset(self) -> None:
        """End with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reset = True
        raise Over

    def farewell(self) -> None:
        """Close with FIN, whatever is still unread, and wait for the client to close too."""
        end = time.monotonic() + FAREWELL
        with contextlib.suppress(OSError):
            if not self._reset:
                self._sock.shutdown(socket.SHUT_WR)
                self._sock.settimeout(FAREWELL)
                while time.monotonic() < end and self._sock.recv(65536):
                    pass

    def hear_any(self) -> None:
        """Whatever comes next, be it SMTP or not."""
        try:
            data = self._stream.recv(65536)
        except (OSError, SSL.Error) as error:
            raise Over from error
        if not data:
            raise Over

    def wait(self) -> None:
        """Say nothing until the client goes."""
        while True:
            self.hear_any()

    def wait_past_tls(self) -> None:
        """Hear nothing, say nothing, until the client goes."""
        try:
            while self._sock.recv(65536):
                pass
        except OSError:
            pass
        raise Over

    def greet(self) -> None:
        self.say(GREETINGS[self.host.kind.software].format(host=self.host.name))

    def offer(self) -> None:
        """Up to the EHLO reply that has STARTTLS, and the STARTTLS of the client."""
        self.greet()
        self.hear()
        self._keywords(KEYWORDS[self.host.kind.software])
        self.hear()

    def to_the_end(self) -> None:
        """EHLO and QUIT inside TLS; more is declined."""
        while (command := self.hear().upper()) != "QUIT":
            if command.startswith("EHLO "):
                self._keywords([word for word in KEYWORDS[self.host.kind.software] if word != "STARTTLS"])
            else:
                self.say("502 5.5.2 command not recognized")
        self.say("221 2.0.0 bye")

    def _keywords(self, words: tuple[str, ...] | list[str]) -> None:
        lines = [self.host.name, *words]
        self.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")
