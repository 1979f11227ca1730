"""MX lookups against a dummy server in a process of its own: every question gets one MX.

`python benchmarks/lookups.py [COUNT]` prints one JSON object: CPU milliseconds of this process per lookup, answers
read and routing decided (its MX host's two addresses come out of the cache after the first).
"""

import asyncio
import json
import subprocess
import sys
import time

import uvloop

from scanner.resolver import Resolver
from scanner.routing import route

IN_FLIGHT = 200
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


async def run(port: int, count: int) -> dict[str, float]:
    async with Resolver([("127.0.0.1", port)]) as resolver:
        names = iter(range(count))
        answered = 0

        async def worker() -> None:
            nonlocal answered
            for number in names:
                routing = await route(f"d{number}.example", resolver.query_many)
                answered += bool(routing.mx and routing.mx[0].addresses)

        await route("first.example", resolver.query_many)  # the shared host is asked for once
        cpu, wall = time.process_time(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(worker())
        return {
            "answered": answered,
            "cpu_ms": (time.process_time() - cpu) / count * 1000,
            "seconds": time.monotonic() - wall,
        }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        print(json.dumps(uvloop.run(run(int(server.stdout.readline()), count))))
    finally:
        server.stdin.close()
        server.wait(10)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
