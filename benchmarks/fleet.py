"""A fleet against the farm: how much faster more workers are, and what the queue costs beside a plain scan.

`python benchmarks/fleet.py ratios [ADDRESSES]`: replies after 300 ms, 50 sessions a worker; the time from the first
session to the end of the last with one, two and four workers, and each worker's CPU.

`python benchmarks/fleet.py overhead [DOMAINS] [--routed]`: the CPU of a plain scan and of a fleet of one worker,
each from the file of domains to the classified scan in a database of its own, and whether they stored the same.
Replies come at once. With `--routed` DNS is left out: the routing is stored beforehand, at no one's cost.

Ten domains share an address: in published figures more do. The servers' CPU (NSD, the farm) is not counted.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests")]

import postgres
from sqlalchemy import text

from benchmarks.backends import Backends
from benchmarks.load import serving
from benchmarks.stored import differences
from benchmarks.zones import address, domain, host
from mxcensus.fleet.tables import make
from scanner import operators
from scanner.records import MailRouting, MxHost, Routing
from storage.database import open_database
from storage.writer import Writer

DOMAINS_AN_ADDRESS = 10
MOST_SECONDS_A_DOMAIN = 0.02
"""How long a process may take, beside ten minutes; a million domains are then given six hours."""

WANTED = [
    "--ehlo-name", "bench.example", "--contact", "bench", "--allow-special-purpose", "--interval", "0",
    "--per-operator", "10000", "--seed", "1", "--names-per-address", "1",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Internet:
    """What is scanned: a file of domains, and where the name server and the mail servers listen."""

    domains: int
    file: Path
    resolver: str
    port: int

    @property
    def addresses(self) -> int:
        return self.domains // DOMAINS_AN_ADDRESS


@contextmanager
def internet(domains: int, latency: int) -> Iterator[Internet]:
    """Serve so many domains, with replies after `latency` milliseconds."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-fleet-") as folder,
        serving("zones.py", domains, domains // DOMAINS_AN_ADDRESS) as dns,
        serving("farm.py", latency) as smtp,
    ):
        file = Path(folder) / "domains"
        with file.open("w", encoding="ascii") as out:
            out.writelines(f"{domain(number)}\n" for number in range(domains))
        yield Internet(domains, file, f"127.0.0.1:{dns}", smtp)


class Programs:
    """Runs the program on one Internet; `cpu` has the seconds of what was run, by name."""

    def __init__(self, net: Internet, url: str) -> None:
        self.cpu: dict[str, float] = {}
        self._net = net
        self._url = url

    def enqueue(self) -> None:
        self._run("enqueue", "fleet", "enqueue", "-f", self._net.file, "--port", self._net.port, *WANTED)

    def work(self, workers: int, concurrency: int) -> None:
        """Run workers until the scan is done."""
        self._run("worker", "fleet", "worker", "--processes", 1, "--until-idle", *self._manners(concurrency),
                  "--stalled-after", 60, copies=workers)  # fmt: skip

    def scan(self, concurrency: int) -> None:
        manners = self._manners(concurrency)
        self._run("scan", "scan", "-f", self._net.file, "--port", self._net.port, "--json", *WANTED, *manners)

    def resume(self, concurrency: int) -> None:
        self._run("scan", "scan", "--resume", "--json", *self._manners(concurrency))

    def _manners(self, concurrency: int) -> list[object]:
        return ["--resolver", self._net.resolver, "--concurrency", concurrency, "--rate", 100000]

    def _run(self, name: str, *words: object, copies: int = 1) -> None:
        command = [sys.executable, "-m", "mxcensus", *map(str, words), "--db", self._url]
        before = sum(os.times()[2:4])
        with tempfile.TemporaryFile() as said:
            running = [subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said) for _ in range(copies)]
            try:
                ended = [one.wait(600 + self._net.domains * MOST_SECONDS_A_DOMAIN) for one in running]
            finally:
                for one in running:
                    one.kill()
            if any(ended):
                said.seek(0)
                raise SystemExit(f"{name}: {said.read()[-2000:].decode()}")
        self.cpu[name] = sum(os.times()[2:4]) - before


def span(url: str) -> tuple[float, int]:
    """Seconds from the first session to the end of the last, and how many were measured."""
    database = open_database(url, create=False)
    query = text(
        "SELECT extract(epoch FROM max(started_at + duration_ms * interval '1 ms') - min(started_at)),"
        " count(*) FILTER (WHERE status = 'measured') FROM observation"
    )
    with database.reading() as connection:
        seconds, measured = connection.execute(query).one()
    database.close()
    return float(seconds), measured


def ratios(cluster: postgres.Cluster, options: argparse.Namespace) -> dict[str, object]:
    count = options.count or 3000
    seconds, cores = {}, {}
    with internet(count * DOMAINS_AN_ADDRESS, latency=300) as net:
        for workers in (1, 2, 4):
            url = cluster.database()
            programs = Programs(net, url)
            programs.enqueue()
            programs.work(workers, concurrency=50)
            seconds[workers], measured = span(url)
            assert measured == count, measured
            cores[workers] = programs.cpu["worker"] / seconds[workers] / workers
    return {
        "addresses": count,
        "seconds": {workers: round(took, 1) for workers, took in seconds.items()},
        "of the time of one": {workers: round(took / seconds[1], 3) for workers, took in seconds.items()},
        "cores a worker, DNS and start included": {workers: round(used, 3) for workers, used in cores.items()},
    }


def overhead(cluster: postgres.Cluster, options: argparse.Namespace) -> dict[str, object]:
    backends = Backends(cluster)
    urls = {kind: cluster.database() for kind in ("plain", "fleet")}
    cpu: dict[str, dict[str, float]] = {}
    with internet(options.count or 100_000, latency=0) as net:
        for kind, url in urls.items():
            programs = Programs(net, url)
            if options.routed:
                programs.enqueue()
                asyncio.run(route(url, net.domains))
                programs.cpu.clear()
            else:
                prepare(url)
            with backends.measuring() as database:
                if kind == "plain":
                    (programs.resume if options.routed else programs.scan)(concurrency=200)
                else:
                    if not options.routed:
                        programs.enqueue()
                    programs.work(1, concurrency=200)
            cpu[kind] = {**programs.cpu, **database}
            assert span(url)[1] == net.addresses
    total = {kind: sum(parts.values()) for kind, parts in cpu.items()}
    return {
        "domains": net.domains,
        "addresses": net.addresses,
        "dns": not options.routed,
        "cpu": {kind: {name: round(used, 1) for name, used in parts.items()} for kind, parts in cpu.items()},
        "total": {kind: round(used, 1) for kind, used in total.items()},
        "queue": round(total["fleet"] / total["plain"] - 1, 3),
        "tables that differ": differences(*urls.values()),
    }


def prepare(url: str) -> None:
    """Make the tables of census and fleet: that is done once, not for each scan."""
    database = open_database(url)
    make(database)
    database.close()


def routing(number: int, hosts: int) -> MailRouting:
    """What the name server would have answered."""
    at = number % hosts
    mx = MxHost(10, host(at), (address(at),), "NOERROR", "NOERROR")
    return MailRouting(domain(number), Routing.MX, "NOERROR", mx=(mx,))


async def route(url: str, domains: int) -> None:
    """Store the routing of every domain."""
    database = open_database(url, create=False)
    info = database.scan_info()
    stand_ins = {"operator_of": operators.operator, "software_of": lambda _: None, "ca_name_text": repr}
    async with Writer(database, info.scan, seed=info.seed, **stand_ins) as writer:
        for number in range(domains):
            await writer.write(routing(number, domains // DOMAINS_AN_ADDRESS))
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("ratios", "overhead"))
    parser.add_argument("count", type=int, nargs="?")
    parser.add_argument("--routed", action="store_true")
    options = parser.parse_args()
    cluster = postgres.Cluster(postgres.programs(), postgres.SHIPPED)
    try:
        print(json.dumps({"ratios": ratios, "overhead": overhead}[options.what](cluster, options)))
    finally:
        cluster.destroy()


if __name__ == "__main__":
    main()
