"""A fleet against the farm: how much faster more workers are, and what the queue costs beside a plain scan.

`python benchmarks/fleet.py ratios|overhead [COUNT]`, with PostgreSQL's server programs installed; DNS is left out.

`ratios`: replies after 300 ms, 50 sessions a worker; the time from the first session to the last with one, two and
four workers. `overhead`: replies after 20 ms, one worker; its CPU and the database's, beside those of a plain scan
of the same endpoints. Ten domains share an address (`DOMAINS_AN_ADDRESS`): in published figures more do.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "tests")]

import postgres
from sqlalchemy import text

from mxcensus.cli import main as mxcensus
from scanner import operators
from scanner.records import MailRouting, MxHost, Routing
from storage.database import open_database
from storage.writer import Writer

DOMAINS_AN_ADDRESS = 10
FARM = [sys.executable, str(ROOT / "benchmarks" / "farm.py")]
WORKER = [
    sys.executable,
    "-m",
    "mxcensus",
    "fleet",
    "worker",
    "--processes",
    "1",
    "--until-idle",
    "--resolver",
    "127.0.0.1:9",
]


def routing(number: int) -> MailRouting:
    """Ten domains a host; each host on an address of its own, a thousand operators."""
    host = number // DOMAINS_AN_ADDRESS
    address = f"127.{1 + host // 62500 % 250}.{host // 250 % 250}.{1 + host % 250}"
    mx = MxHost(10, f"mx{host}.op{host % 1000}.test", (address,), "NOERROR", "NOERROR")
    return MailRouting(f"d{number}.test", Routing.MX, "NOERROR", mx=(mx,))


async def route(url: str, domains: int) -> None:
    """Store what resolvers would have answered."""
    database = open_database(url, create=False)
    info = database.scan_info()
    stand_ins = {"operator_of": operators.operator, "software_of": lambda _: None, "ca_name_text": repr}
    async with Writer(database, info.scan, seed=info.seed, **stand_ins) as writer:
        for number in range(domains):
            await writer.write(routing(number))
    database.close()


def options(port: str) -> list[str]:
    return [
        "--port", port, "--ehlo-name", "bench.example", "--contact", "bench", "--allow-special-purpose",
        "--interval", "0", "--per-operator", "10000", "--seed", "1", "--names-per-address", "1",
    ]  # fmt: skip


def enqueue(url: str, port: str, domains: int, folder: Path) -> None:
    path = folder / "domains"
    path.write_text("".join(f"d{number}.test\n" for number in range(domains)))
    assert mxcensus(["fleet", "enqueue", "-f", str(path), "--db", url, *options(port)]) == 0
    asyncio.run(route(url, domains))


def cpu(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def work(url: str, workers: int, *more: str) -> float:
    """Run workers until the scan is done; their CPU seconds."""
    before = sum(os.times()[2:4])
    command = [*WORKER, "--db", url, "--rate", "100000", "--stalled-after", "60", *more]
    children = [subprocess.Popen(command) for _ in range(workers)]
    assert [child.wait() for child in children] == [0] * workers
    return sum(os.times()[2:4]) - before


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


def ratios(cluster: postgres.Cluster, folder: Path, count: int) -> dict[str, object]:
    with subprocess.Popen([*FARM, "300"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as farm:
        port = farm.stdout.readline().strip()
        seconds, cores = {}, {}
        for workers in (1, 2, 4):
            url = cluster.database()
            enqueue(url, port, count * DOMAINS_AN_ADDRESS, folder)
            used = work(url, workers, "--concurrency", "50")
            seconds[workers], measured = span(url)
            assert measured == count, measured
            cores[workers] = round(used / seconds[workers] / workers, 3)
        farm.stdin.close()
    return {
        "seconds": {workers: round(took, 1) for workers, took in seconds.items()},
        "of the time of one": {workers: round(took / seconds[1], 3) for workers, took in seconds.items()},
        "cores a worker": cores,
    }


def overhead(cluster: postgres.Cluster, folder: Path, count: int) -> dict[str, object]:
    postmaster = int((cluster.directory / "data/postmaster.pid").read_text().split()[0])
    domains = count * DOMAINS_AN_ADDRESS
    with subprocess.Popen([*FARM, "20"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as farm:
        port = farm.stdout.readline().strip()
        found = {}
        for kind in ("plain", "fleet"):
            url = cluster.database()
            enqueue(url, port, domains, folder)
            time.sleep(1)
            before = cpu(postmaster)
            if kind == "fleet":
                used = work(url, 1, "--concurrency", "200")
            else:
                ours = sum(os.times()[2:4])
                # The same domains by a plain scan: resumed, since they are entered and routed.
                done = subprocess.run(
                    [sys.executable, "-m", "mxcensus", "scan", "--resume", "--db", url, "--json",
                     "--concurrency", "200",
                     "--rate", "100000", "--per-operator", "10000", "--interval", "0", "--resolver", "127.0.0.1:9"],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                assert json.loads(done.stdout)["measured"] == count, done.stdout
                used = sum(os.times()[2:4]) - ours
            time.sleep(1)  # backends end, and the postmaster counts them
            found[kind] = {"program": round(used, 1), "database": round(cpu(postmaster) - before, 1)}
            assert span(url)[1] == count
        farm.stdin.close()
    total = {kind: sum(parts.values()) for kind, parts in found.items()}
    return {
        "domains": domains,
        "addresses": count,
        "cpu": found,
        "queue": round(total["fleet"] / total["plain"] - 1, 3),
    }


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1200
    cluster = postgres.Cluster(postgres.programs())
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = {"ratios": ratios, "overhead": overhead}[what](cluster, Path(folder), count)
            print(json.dumps(found))
    finally:
        cluster.destroy()


if __name__ == "__main__":
    main()
