"""The lab's zone with liars in it: what `lab.hostile_dns` has in its table is answered by its script."""

import re
import socket
from collections.abc import Iterable, Iterator

import dns.exception
import dns.message
import dns.rdatatype

from lab.dns import Zone, framed
from lab.hostile_dns import LIARS, PARENT, Asked, Liar, named
from lab.population import Population


class LyingZone(Zone):
    """An honest zone, but for the domains of the table; `host` is the true mail host. To be closed."""

    def __init__(self, population: Population, host: str) -> None:
        super().__init__(population)
        self._host = host
        self._elsewhere: dict[str, socket.socket] = {}

    def datagrams(self, wire: bytes, peer: tuple[str, int]) -> Iterable[bytes]:
        found = self._liar(wire, udp=True)
        if found is None:
            return super().datagrams(wire, peer)
        return self._from_here(found, peer)

    def stream(self, wire: bytes) -> bytes:
        found = self._liar(wire, udp=False)
        if found is None:
            return super().stream(wire)
        liar, asked = found
        parts = [said for said in liar.script(asked) if isinstance(said, bytes)]
        return b"".join(parts if liar.framed else map(framed, parts))

    def close(self) -> None:
        for sock in self._elsewhere.values():
            sock.close()

    def _from_here(self, found: tuple[Liar, Asked], peer: tuple[str, int]) -> Iterator[bytes]:
        liar, asked = found
        for said in liar.script(asked):
            if isinstance(said, bytes):
                yield said
            else:
                self._send_from(said.address, said.datagram, peer)

    def _send_from(self, address: str, datagram: bytes, peer: tuple[str, int]) -> None:
        if address not in self._elsewhere:
            self._elsewhere[address] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._elsewhere[address].bind((address, 0))
        self._elsewhere[address].sendto(datagram, peer)

    def _liar(self, wire: bytes, *, udp: bool) -> tuple[Liar, Asked] | None:
        """The script for a question, None where it is not about a liar's name."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        behaviour = re.fullmatch(rf"(?:.*\.)?([^.]+)\.{re.escape(PARENT)}", name)
        if behaviour is None or behaviour[1] not in LIARS:
            return None
        domain, kind = named(behaviour[1]), dns.rdatatype.to_text(query.question[0].rdtype)
        asked = Asked(query, domain, name, kind, udp, b"")
        mail = (f"{domain}. MX 10 {self._host}.",) if (name, kind) == (domain, "MX") else ()
        truth = asked.answer(*mail, rcode=0 if name == domain else 3)
        return LIARS[behaviour[1]], Asked(query, domain, name, kind, udp, truth)
