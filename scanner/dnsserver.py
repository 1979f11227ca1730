"""One DNS server as seen from here: its sockets, messages out and in by ID. What they mean is the resolver's job.

Each UDP socket is connected, so that the kernel drops what other addresses send and reports ICMP errors. A message
counts only if its ID belongs to a question on its way on that socket, and it echoes that question (RFC 5452).
"""

import asyncio
import os
import socket
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from scanner import dnswire

BURST = 64
"""Datagrams read from one socket before others get their turn."""

DATAGRAM = 4096
"""What is longer breaks the size that EDNS0 offered; it is cut, and then malformed."""

_RECEIVE_BUFFER = 4 * 1024 * 1024


class NoResolver(ValueError):  # the message is what a person reads
    """There is no resolver to ask; the message is one line."""


class Pending:
    """A question on its way, and the IDs under which sockets know it."""

    __slots__ = ("_known", "asked")

    def __init__(self, asked: dnswire.Question) -> None:
        self.asked = asked
        self._known: list[tuple[dict[int, Any], int]] = []

    def enter(self, waiting: dict[int, Any], ident: int) -> None:
        """Become known to a socket under an ID."""
        waiting[ident] = self
        self._known.append((waiting, ident))

    def forget(self) -> None:
        """Become unknown to all sockets: what still comes is ignored."""
        for waiting, ident in self._known:
            del waiting[ident]
        self._known.clear()


P = TypeVar("P", bound=Pending)
Heard = Callable[["Server[P]", P, bytes], None]
Broken = Callable[["Server[P]", Sequence[P]], None]


class Server(Generic[P]):
    """A server and the sockets connected to it; none where there is no way to reach it.

    `heard(server, pending, message)` is called for each message that answers a question, `broken(server, pendings)`
    when the questions sent to it, so far, cannot reach it. `silent` counts tries in a row that brought nothing; it
    is the resolver's. `sent` and `ignored` count datagrams.
    """

    __slots__ = ("_broken", "_channels", "_heard", "_random", "host", "ignored", "index", "port", "sent", "silent")

    def __init__(self, index: int, host: str, port: int, heard: Heard[P], broken: Broken[P]) -> None:
        self.index, self.host, self.port = index, host, port
        self.sent = self.ignored = self.silent = 0
        self._heard, self._broken = heard, broken
        self._channels: list[tuple[socket.socket, dict[int, P]]] = []
        self._random = array("H")

    def open(self, sockets: int) -> None:
        """Open so many sockets on the running loop; raises `NoResolver` where `host` is no address usable here."""
        try:
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM, flags=flags)
        except (OSError, UnicodeError):
            raise NoResolver(f"{self.host!r} is no address of a DNS resolver") from None
        family, kind, protocol, _, address = found[0]
        for _ in range(sockets):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                raise NoResolver(f"no socket to reach the resolver {self.host}: {error.strerror}") from None
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            try:
                sock.connect(address)
            except OSError:  # no route to it: its questions go unanswered
                sock.close()
                return
            waiting: dict[int, P] = {}
            self._channels.append((sock, waiting))
            asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, sock, waiting)

    def close(self) -> None:
        """Close the sockets; call it on the loop that opened them."""
        for sock, _ in self._channels:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._channels.clear()

    def send(self, pending: P) -> None:
        """Ask from one of the sockets, under an ID that is free there; `broken` is called soon if that fails."""
        if not self._channels:
            self._break_soon([pending])
            return
        sock, waiting = self._channels[self._random16() % len(self._channels)]
        ident = self._random16()
        while ident in waiting:
            ident = self._random16()
        pending.enter(waiting, ident)
        self.sent += 1
        try:
            sock.send(dnswire.make_query(ident, pending.asked))
        except BlockingIOError:  # no room in the buffer
            self._break_soon([pending])
        except OSError:  # no route, or an earlier datagram's ICMP error, which the kernel tells once
            self._break_soon(list(waiting.values()))

    async def ask_over_tcp(self, asked: dnswire.Question) -> bytes | None:
        """The message that answers over a TCP connection of its own (RFC 7766), None if there is none.

        The caller bounds the time; a message has at most 65,535 octets.
        """
        ident = self._random16()
        try:
            message = await _exchange(self.host, self.port, dnswire.make_query(ident, asked))
        except (OSError, EOFError):
            return None
        if dnswire.ident_of(message) != ident or not dnswire.matches(asked, message):
            return None
        return None if dnswire.is_truncated(message) else message

    def _readable(self, sock: socket.socket, waiting: dict[int, P]) -> None:
        for _ in range(BURST):
            try:
                message = sock.recv(DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error: nobody listens there
                self._broken(self, list(waiting.values()))
                return
            pending = waiting.get(dnswire.ident_of(message))
            if pending is None or not dnswire.matches(pending.asked, message):
                self.ignored += 1
            else:
                self._heard(self, pending, message)

    def _break_soon(self, pendings: Sequence[P]) -> None:
        """Not at once, so that a failure cannot start the next one inside itself."""
        asyncio.get_running_loop().call_soon(self._broken, self, pendings)

    def _random16(self) -> int:
        """16 unpredictable bits, read from the system in larger pieces."""
        if not self._random:
            self._random.frombytes(os.urandom(4096))
        return self._random.pop()


async def _exchange(host: str, port: int, query: bytes) -> bytes:
    """One message each way (RFC 1035 section 4.2.2)."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length)
    finally:
        writer.close()
