"""The lab's resolver: answers from the population's table over UDP and TCP, like a recursive server would."""

import socketserver
import threading
from collections.abc import Iterator
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from lab.population import Population

TTL = 60
MAX_ALIASES = 8


class Zone:
    """What the lab's resolver knows."""

    def __init__(self, population: Population) -> None:
        self._records = population.zone
        self._failing = population.failing
        self._names = {name for name, _ in population.zone}

    def answer(self, wire: bytes, *, limit: int | None) -> bytes | None:
        """The answer to a query; None for silence. Longer than `limit` octets, it is truncated."""
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        failing = self._failing.get(name)
        if failing == "silent":
            return None
        if failing is not None:
            response.set_rcode(dns.rcode.from_text(failing))
            return response.to_wire()
        for rrset in self._rrsets(name, dns.rdatatype.to_text(question.rdtype)):
            response.answer.append(rrset)
            name = rrset[0].target.to_text(omit_final_dot=True) if rrset.rdtype == dns.rdatatype.CNAME else name
        if not response.answer and name not in self._names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        full = response.to_wire()
        if limit is None or len(full) <= limit:
            return full
        response.answer.clear()
        response.flags |= dns.flags.TC
        return response.to_wire()

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


class _Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sock = self.request
        answer = self.server.zone.answer(wire, limit=1232)  # type: ignore[attr-defined]  # set by Nameserver
        if answer is not None:
            sock.sendto(answer, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = int.from_bytes(self.rfile.read(2), "big")
        answer = self.server.zone.answer(self.rfile.read(length), limit=None)  # type: ignore[attr-defined]
        if answer is not None:
            self.wfile.write(len(answer).to_bytes(2, "big") + answer)


class Nameserver:
    """The resolver on 127.0.0.1, UDP and TCP on one free port. A context manager."""

    def __init__(self, population: Population) -> None:
        zone = Zone(population)
        self._udp, self._tcp = _bind()
        for server in (self._udp, self._tcp):
            server.zone = zone  # type: ignore[attr-defined]
        self.port: int = self._udp.server_address[1]

    def __enter__(self) -> Self:
        for server in (self._udp, self._tcp):
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._udp, self._tcp):
            server.shutdown()
            server.server_close()


def _bind() -> tuple[socketserver.UDPServer, socketserver.TCPServer]:
    """Both on the same port: UDP takes a free one, TCP tries it, a few times."""
    for _ in range(20):
        udp = socketserver.UDPServer(("127.0.0.1", 0), _Udp)
        try:
            return udp, socketserver.ThreadingTCPServer(("127.0.0.1", udp.server_address[1]), _Tcp)
        except OSError:
            udp.server_close()
    raise OSError("no port that is free on UDP and TCP")
