"""MX lookups against a dummy server in a process of its own: every question gets one MX.

`python benchmarks/lookups.py [COUNT]` prints one JSON object: CPU milliseconds of this process per lookup, answers
read and routing decided (its MX host's two addresses come out of the cache after the first), and the same with the
routing stored in SQLite.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import uvloop

from benchmarks.storing import new_scan
from mxcensus.collector import rare_collections
from scanner.ledger import order_key
from scanner.records import MailRouting
from scanner.resolver import Resolver
from scanner.routing import route
from storage.database import open_database

Store = Callable[[MailRouting], Awaitable[None]]

IN_FLIGHT = 200
SEED = 1
RECORDS = {  # type, class, TTL, length and data
    15: b"\0\x0f\0\x01\0\0\x0e\x10\0\x0d\0\x0a\x02mx\x06shared\x00",
    1: b"\0\x01\0\x01\0\0\x0e\x10\0\x04\x7f\x01\x02\x03",
}


def serve() -> None:
    """Answers MX with one host, A with one address, everything else with nothing; ends with its standard input."""
    import select  # noqa: PLC0415  # only the server's process needs sockets
    import socket  # noqa: PLC0415

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    while True:
        ready, _, _ = select.select([sock, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        query, client = sock.recvfrom(2048)
        end = query.index(b"\0", 12) + 5
        kind = query[end - 3]
        data = RECORDS.get(kind)
        count = b"\0\x01" if data else b"\0\0"
        answer = b"\xc0\x0c" + data if data else b""
        sock.sendto(query[:2] + b"\x81\x80\0\x01" + count + b"\0\0\0\0" + query[12:end] + answer, client)


async def lookups(port: int, count: int, store: Store) -> float:
    """CPU seconds of all lookups."""
    async with Resolver([("127.0.0.1", port)]) as resolver:
        # A scan works in this order.
        names = iter(sorted((f"d{number}.example" for number in range(count)), key=partial(order_key, SEED)))

        async def worker() -> None:
            for name in names:
                routing = await route(name, resolver.query_many)
                assert routing.mx[0].addresses
                await store(routing)

        await route("first.example", resolver.query_many)  # the shared host is asked for once
        cpu = time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(worker())
        return time.process_time() - cpu


async def forget(_: MailRouting) -> None:
    """Store nothing."""


async def run(port: int, count: int, url: str) -> dict[str, float]:
    bare = await lookups(port, count, forget)
    database = open_database(url)
    _, writer = await new_scan(database, SEED)
    async with writer:
        taken = await lookups(port, count, writer.write)
        rest = time.process_time()
    stored = taken + time.process_time() - rest
    database.close()
    return {"cpu_ms": bare / count * 1000, "stored_ms": stored / count * 1000}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        with tempfile.TemporaryDirectory() as folder, rare_collections():
            port = int(server.stdout.readline())
            print(json.dumps(uvloop.run(run(port, count, f"sqlite:///{folder}/bench.db"))))
    finally:
        server.stdin.close()
        server.wait(10)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
