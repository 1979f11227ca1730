"""Scripted SMTP servers: one thread listens on all addresses, one more a connection says its part.

Threads and blocking sockets on purpose: a script reads from top to bottom, and a TLS alert is on its way before the
socket closes. Every connection is logged as the server saw it.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from OpenSSL import SSL

from lab.authority import Authority
from lab.population import LabHost

SECONDS = 20
GREETINGS = {
    "postfix": "220 {host} ESMTP Postfix",
    "exim": "220 {host} ESMTP Exim 4.98 Tue, 24 Nov 2026 10:00:00 +0000",
    "sendmail": "220 {host} ESMTP Sendmail 8.18.1/8.18.1; Tue, 24 Nov 2026 10:00:00 GMT",
    "exchange": "220 {host} Microsoft ESMTP MAIL Service ready at Tue, 24 Nov 2026 10:00:00 +0000",
}
VERSIONS = {
    "tls10": SSL.TLS1_VERSION,
    "tls11": SSL.TLS1_1_VERSION,
    "tls12": SSL.TLS1_2_VERSION,
    "asks-tls12": SSL.TLS1_2_VERSION,
    "requires-alert-tls12": SSL.TLS1_2_VERSION,
}


@dataclass(slots=True)
class Visit:
    """One connection as the server saw it; times are monotonic seconds."""

    address: str
    began: float
    ended: float | None = None
    commands: list[str] = field(default_factory=list)


class Over(Exception):  # the end of a script, not an error
    """The client has gone, or the script is done."""


class Talk:
    """One connection, from the server's side."""

    def __init__(self, sock: socket.socket, host: LabHost, visit: Visit) -> None:
        self.host = host
        self._sock = sock
        self._stream: socket.socket | SSL.Connection = sock
        self._visit = visit
        self._buffer = b""

    def say(self, *lines: str) -> None:
        try:
            self._stream.sendall("".join(f"{line}\r\n" for line in lines).encode())
        except (OSError, SSL.Error) as error:
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
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        command = line.decode("ascii", "replace").strip()
        self._visit.commands.append(command)
        return command

    def start_tls(self, context: SSL.Context) -> None:
        connection = SSL.Connection(context, self._sock)
        connection.set_accept_state()
        try:
            connection.do_handshake()
        except (OSError, SSL.Error) as error:
            raise Over from error
        self._stream = connection

    def reset(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Over

    def greet(self) -> None:
        self.say(GREETINGS[self.host.kind.software].format(host=self.host.name))

    def offer(self) -> None:
        self.greet()
        self.hear()
        self.say(f"250-{self.host.name}", "250-PIPELINING", "250-SIZE 10240000", "250-STARTTLS", "250 8BITMIME")

    def to_the_end(self) -> None:
        """EHLO and QUIT inside TLS."""
        self.hear()
        self.say(f"250-{self.host.name}", "250 8BITMIME")
        if self.hear() == "QUIT":
            self.say("221 2.0.0 bye")


Script = Callable[[Talk, SSL.Context], None]


def good(talk: Talk, context: SSL.Context) -> None:
    talk.offer()
    talk.hear()
    talk.say("220 2.0.0 ready to start TLS")
    talk.start_tls(context)
    talk.to_the_end()


def injected(talk: Talk, context: SSL.Context) -> None:
    talk.offer()
    talk.hear()
    talk.say("220 2.0.0 ready to start TLS", "250 injected")
    talk.start_tls(context)
    talk.to_the_end()


def delayed(talk: Talk, context: SSL.Context) -> None:
    time.sleep(0.3)
    good(talk, context)


def multi_line(talk: Talk, context: SSL.Context) -> None:
    talk.say(f"220-{talk.host.name} ESMTP", "220-no spam here")
    good(talk, context)


def refuses_after_tls(talk: Talk, context: SSL.Context, *, line: str | None) -> None:
    talk.offer()
    talk.hear()
    talk.say("220 2.0.0 ready to start TLS")
    talk.start_tls(context)
    talk.hear()
    if line is not None:
        talk.say(line)
        talk.hear()


def says(talk: Talk, _: SSL.Context, *, lines: tuple[str, ...], greets: bool = True) -> None:
    """Greets, then answers each command with the next of its lines."""
    if greets:
        talk.greet()
        talk.hear()
    for line in lines:
        talk.say(*line.split("|"))
        talk.hear()


def closes(_: Talk, __: SSL.Context) -> None:
    return


def resets(talk: Talk, _: SSL.Context) -> None:
    talk.reset()


def garbage(talk: Talk, _: SSL.Context) -> None:
    talk.offer()
    talk.hear()
    talk.say("220 2.0.0 ready to start TLS", "this is not TLS " * 8)


SCRIPTS: dict[str, Script] = {
    "delayed-greeting": delayed,
    "multi-line-greeting": multi_line,
    "injected": injected,
    "requires-421": partial(refuses_after_tls, line="421 4.7.1 Error: no client certificate"),
    "requires-503": partial(refuses_after_tls, line="503 5.7.0 authentication required"),
    "requires-close": partial(refuses_after_tls, line=None),
    "asks-then-busy": partial(refuses_after_tls, line="421 4.7.0 too many connections, try later"),
    "no-starttls": partial(says, lines=("250-mx|250 8BITMIME", "221 bye")),
    "starttls-substring": partial(says, lines=("250-mx STARTTLS|250 XSTARTTLS", "221 bye")),
    "starttls-454": partial(says, lines=("250-mx|250 STARTTLS", "454 4.7.0 TLS not available", "221 bye")),
    "ehlo-refused": partial(says, lines=("502 5.5.2 command not recognized", "221 bye")),
    "greeting-421": partial(says, lines=("421 4.7.0 too many connections", "221 bye"), greets=False),
    "greeting-554": partial(says, lines=("554 5.7.1 no service here", "221 bye"), greets=False),
    "not-smtp": partial(says, lines=("SSH-2.0-OpenSSH_9.9",), greets=False),
    "garbage-after-220": garbage,
    "closes": closes,
    "resets": resets,
}


class Servers:
    """All servers of a lab on one port. A context manager; `visits` is the log."""

    def __init__(self, hosts: list[LabHost], authority: Authority, port: int) -> None:
        self.visits: list[Visit] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="lab-smtp", daemon=True)
        by_address: dict[str, list[LabHost]] = {}
        for host in hosts:
            if host.kind.behaviour != "refused":
                by_address.setdefault(host.address, []).append(host)
        for address, named in by_address.items():
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(64)
            listener.setblocking(False)
            contexts = [_context(host, authority) for host in named]
            self._selector.register(listener, selectors.EVENT_READ, (named[0], contexts[0]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.1):
                listener = key.fileobj
                assert isinstance(listener, socket.socket)
                sock, _peer = listener.accept()
                host, context = key.data
                visit = Visit(host.address, time.monotonic())
                self.visits.append(visit)
                threading.Thread(target=_serve, args=(sock, host, context, visit), daemon=True).start()


def _serve(sock: socket.socket, host: LabHost, context: SSL.Context, visit: Visit) -> None:
    sock.setblocking(True)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # a timeout that OpenSSL's own reads obey too
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SECONDS, 0))
    with sock:
        with contextlib.suppress(Over):
            SCRIPTS.get(host.kind.behaviour, good)(Talk(sock, host, visit), context)
        visit.ended = time.monotonic()


def _context(host: LabHost, authority: Authority) -> SSL.Context:
    behaviour = host.kind.behaviour
    issued, listed = authority.issue(host.kind.leaf, host.name)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    version = VERSIONS.get(behaviour)
    if version is not None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    context.use_privatekey(issued.key)
    context.use_certificate(issued.certificate)
    for certificate in listed[1:]:
        context.add_extra_chain_cert(certificate)
    if behaviour.startswith(("asks", "requires")):
        insists = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if behaviour.startswith("requires-alert") else 0
        context.set_verify(SSL.VERIFY_PEER | insists, lambda *_: True)
    if behaviour == "asks-with-names":
        context.add_client_ca(authority.issuers["private"].certificate)
    return context
