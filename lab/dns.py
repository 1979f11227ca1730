"""The lab's resolver: answers from the population's table over UDP and TCP, like a recursive server would."""

import socketserver
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from lab.population import Population, is_signed

TTL = 60
MAX_ALIASES = 8
UDP_LIMIT = 1232
"""Octets of an answer over UDP, whatever more the client allows: the usual bound against fragments."""
PLAIN_LIMIT = 512


class Zone:
    """What the lab's resolver knows."""

    def __init__(self, population: Population) -> None:
        self._records = population.zone
        self._failing = population.failing
        self._truncated = population.truncated
        self._unsigned = population.unsigned
        self._names = {name for name, _ in population.zone}

    def answer(self, wire: bytes, *, udp: bool) -> bytes | None:
        """The answer to a query; None for silence, also to what is no query. Too long for UDP, it is truncated."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        failing = self._failing.get(name)
        if failing == "silent":
            return None
        if failing is not None:
            response.set_rcode(dns.rcode.from_text(failing))
            return response.to_wire()
        if (
            is_signed(name)
            and name not in self._unsigned
            and (query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO)
        ):
            response.flags |= dns.flags.AD
        last = self._fill(response, name, dns.rdatatype.to_text(question.rdtype))
        if not response.answer and last not in self._names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        full = response.to_wire(max_size=65535)
        limit = min(query.payload, UDP_LIMIT) if query.edns >= 0 else PLAIN_LIMIT
        if not udp or (len(full) <= limit and name not in self._truncated):
            return full
        response.answer.clear()
        response.flags |= dns.flags.TC
        return response.to_wire()

    def datagrams(self, wire: bytes, _: tuple[str, int]) -> Iterable[bytes]:
        """What goes back to a peer over UDP."""
        answer = self.answer(wire, udp=True)
        return () if answer is None else (answer,)

    def stream(self, wire: bytes) -> bytes:
        """What goes back over TCP, its length in front."""
        answer = self.answer(wire, udp=False)
        return b"" if answer is None else framed(answer)

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> str:
        """Add the alias chain and what is at its end; returns the name there."""
        for rrset in self._rrsets(name, kind):
            response.answer.append(rrset)
            if rrset.rdtype == dns.rdatatype.CNAME:
                name = rrset[0].target.to_text(omit_final_dot=True)
        return name

    def _rrsets(self, name: str, kind: str) -> Iterator[dns.rrset.RRset]:
        for _ in range(MAX_ALIASES):
            target = self._records.get((name, "CNAME"))
            if target is None:
                break
            yield dns.rrset.from_text(dns.name.from_text(name), TTL, "IN", "CNAME", *target)
            name = target[0].rstrip(".")
        data = self._records.get((name, kind))
        if data is not None:
            yield dns.rrset.from_text(dns.name.from_text(name), TTL, "IN", kind, *data)


def framed(message: bytes) -> bytes:
    """A message as it goes over TCP (RFC 1035 section 4.2.2)."""
    return len(message).to_bytes(2, "big") + message


class _Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sock = self.request
        zone: Zone = self.server.zone  # type: ignore[attr-defined]  # set by Nameserver
        for datagram in zone.datagrams(wire, self.client_address):
            sock.sendto(datagram, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self) -> None:
        """Answers question after question until the client closes (RFC 7766 section 6.2.1)."""
        try:
            while len(prefix := self.rfile.read(2)) == 2:
                wire = self.rfile.read(int.from_bytes(prefix, "big"))
                self.wfile.write(self.server.zone.stream(wire))  # type: ignore[attr-defined]  # likewise
        except OSError:  # gone, or silent for too long
            return


class _Faults:
    """Keeps what a handler raised: a fault of the lab must not pass for a server that says nothing."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.faults: list[BaseException | None] = []

    def handle_error(self, *_: object) -> None:
        self.faults.append(sys.exception())


class _UdpServer(_Faults, socketserver.UDPServer):
    pass


class _TcpServer(_Faults, socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class Nameserver:
    """The resolver on 127.0.0.1, UDP and TCP on one free port. A context manager."""

    def __init__(self, zone: Zone) -> None:
        self._udp, self._tcp = _bind()
        for server in (self._udp, self._tcp):
            server.zone = zone  # type: ignore[union-attr]  # what the handlers answer from
        self.port: int = self._udp.server_address[1]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
            for server in (self._udp, self._tcp)
        ]

    @property
    def faults(self) -> list[BaseException | None]:
        """What went wrong in the server itself."""
        return [*self._udp.faults, *self._tcp.faults]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._udp, self._tcp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


def _bind() -> tuple[_UdpServer, _TcpServer]:
    """Both on the same port: UDP takes a free one, TCP tries it, a few times."""
    for _ in range(20):
        udp = _UdpServer(("127.0.0.1", 0), _Udp)
        try:
            return udp, _TcpServer(("127.0.0.1", udp.server_address[1]), _Tcp)
        except OSError:
            udp.server_close()
    raise OSError("no port that is free on UDP and TCP")
