"""A real name server (NSD) for a census of any size: domains d0... whose MX hosts h0... each have an address.

Hosts belong to a thousand operators.

`python benchmarks/zones.py DOMAINS HOSTS` prints the port and serves until its standard input closes.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ORIGIN = "test"
OPERATORS = 1000
CONFIG = """\
server:
    ip-address: 127.0.0.1@{port}
    server-count: 1
    database: ""
    username: ""
    chroot: ""
    zonesdir: "{root}"
    zonelistfile: "{root}/zone.list"
    xfrdfile: "{root}/xfrd.state"
    xfrdir: "{root}"
    pidfile: "{root}/nsd.pid"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: {origin}
    zonefile: {root}/zone
"""
QUESTION = b"\0\7\1\0\0\1\0\0\0\0\0\0\4test\0\0\6\0\1"  # SOA
START_SECONDS = 120
ATTEMPTS = 3


def domain(number: int) -> str:
    """The name of a domain."""
    return f"d{number}.bench.{ORIGIN}"


def host(number: int) -> str:
    """The name of an MX host."""
    return f"h{number}.op{number % OPERATORS}.{ORIGIN}"


def address(number: int) -> str:
    """The address of an MX host."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def records(domains: int, hosts: int) -> Iterator[str]:
    """The lines of the zone; host number n serves the domains n, n + hosts, ..."""
    yield f"$ORIGIN {ORIGIN}.\n$TTL 3600\n@ SOA ns.{ORIGIN}. bench 1 3600 600 86400 3600\n@ NS ns\nns A 127.0.0.1\n"
    for number in range(hosts):
        yield f"{host(number)}. A {address(number)}\n"
    for number in range(domains):
        yield f"{domain(number)}. MX 10 {host(number % hosts)}.\n"


def main() -> None:
    domains, hosts = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="bench-nsd-") as folder:
        root = Path(folder)
        with (root / "zone").open("w", encoding="ascii") as zone:
            zone.writelines(records(domains, hosts))
        for _ in range(ATTEMPTS):
            port = _free_port()
            server = _start(root, port)
            try:
                if _answers(port, server):
                    print(port, flush=True)
                    sys.stdin.read()
                    return
            finally:
                server.terminate()
                server.wait(30)
    raise SystemExit("nsd did not answer")


def _free_port() -> int:
    """A port that is free for UDP; that it is free for TCP too is only likely, hence the attempts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _start(root: Path, port: int) -> "subprocess.Popen[bytes]":
    program = shutil.which("nsd") or "/usr/sbin/nsd"
    (root / "nsd.conf").write_text(CONFIG.format(port=port, root=root, origin=ORIGIN), encoding="utf-8")
    return subprocess.Popen(
        [program, "-d", "-c", root / "nsd.conf"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _answers(port: int, server: "subprocess.Popen[bytes]") -> bool:
    """Whether the server answers, sooner or later; a big zone takes a while to load."""
    deadline = time.monotonic() + START_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        while time.monotonic() < deadline and server.poll() is None:
            try:
                client.sendto(QUESTION, ("127.0.0.1", port))
                client.recv(2048)
            except OSError:
                time.sleep(0.1)
            else:
                return True
    return False


if __name__ == "__main__":
    main()
