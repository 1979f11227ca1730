"""The handshake floor: the client's CPU for one in-memory TLS 1.3 handshake with the OpenSSL that the scanner uses.

`python benchmarks/floor.py [COUNT]` prints the seconds of CPU of one. The server is on the other end of two memory
BIOs in the same process; only what the client does is timed.
"""

import sys
import time

from OpenSSL import SSL

from lab.authority import Authority, Leaf

CHUNK = 65536


def floor(count: int) -> float:
    issued, listed = Authority().issue(Leaf("server+client"), "floor.test")
    server = SSL.Context(SSL.TLS_SERVER_METHOD)
    server.use_privatekey(issued.key)
    server.use_certificate(issued.certificate)
    for certificate in listed[1:]:
        server.add_extra_chain_cert(certificate)
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    return sum(_handshake(client, server) for _ in range(count)) / count


def _handshake(client: SSL.Context, server: SSL.Context) -> float:
    here, there = SSL.Connection(client, None), SSL.Connection(server, None)
    here.set_connect_state()
    there.set_accept_state()
    spent, flight, done = 0.0, b"", False
    while not done:
        began = time.process_time()
        if flight:
            here.bio_write(flight)
        done = _step(here)
        out = _output(here)
        spent += time.process_time() - began
        there.bio_write(out)
        _step(there)
        flight = _output(there)
    return spent


def _step(end: SSL.Connection) -> bool:
    try:
        end.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def _output(end: SSL.Connection) -> bytes:
    try:
        return end.bio_read(CHUNK)
    except SSL.WantReadError:
        return b""


if __name__ == "__main__":
    print(floor(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
