"""A DNS server on loopback that answers as a test scripts it: UDP and TCP on one port, real sockets."""

import asyncio
import socket

import dns.flags
import dns.message
import dns.rrset


def answer(query, *records, rcode=0, flags=0):
    """The wire of a well-formed response; records are lines as in a master file."""
    message = dns.message.make_response(query, our_payload=1232)
    message.flags |= dns.flags.RA | flags
    message.set_rcode(rcode)
    for record in records:
        name, rdtype, data = record.split(" ", 2)
        message.answer.append(dns.rrset.from_text(name, 60, "IN", rdtype, data))
    return message.to_wire(max_size=65_535)


class FakeServer:
    """`udp(query)` gives the datagrams that answer a query, `tcp(query)` the octets, None for silence.

    `asked` are the queries that came over UDP, `peers` the addresses they came from, `asked_over_tcp` the queries
    over TCP, all as dnspython's messages.
    """

    def __init__(self, udp, tcp=None, host="127.0.0.1"):
        self.udp, self.tcp, self.host = udp, tcp, host
        self.asked, self.asked_over_tcp, self.peers = [], [], []
        self._tasks = set()
        self._news = asyncio.Event()

    async def until(self, condition):
        """Wait for queries until the condition holds."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    @property
    def address(self):
        return self.host, self.port

    def names(self):
        return [query.question[0].name.to_text(omit_final_dot=True) for query in self.asked]

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        for _ in range(20):  # the TCP port of the same number may be taken
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.bind((self.host, 0))
            self.port = sock.getsockname()[1]
            try:
                self._tcp = await asyncio.start_server(self._over_tcp, self.host, self.port)
            except OSError:
                sock.close()
            else:
                break
        self.transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
        return self

    async def __aexit__(self, *exc):
        self.transport.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def received(self, data, peer):
        query = dns.message.from_wire(data)
        self.asked.append(query)
        self.peers.append(peer)
        self._news.set()
        for datagram in self.udp(query) or ():
            self.transport.sendto(datagram, peer)

    async def _over_tcp(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            length = int.from_bytes(await reader.readexactly(2), "big")
            query = dns.message.from_wire(await reader.readexactly(length))
            self.asked_over_tcp.append(query)
            self._news.set()
            octets = self.tcp(query)
            if octets is None:
                await reader.read()  # until the other side gives up
            else:
                writer.write(octets)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server

    def datagram_received(self, data, peer):
        self.server.received(data, peer)


def framed(wire):
    """A message as it goes over TCP."""
    return len(wire).to_bytes(2, "big") + wire
