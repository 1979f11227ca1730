"""A whole census by the command line, from a file of domains to the report: real NSD, a farm of servers, SQLite.

`python benchmarks/census.py DOMAINS HOSTS [--shards N] [--latency MS] [--concurrency N]` prints one JSON object:
the CPU seconds of the scanner's own processes, the seconds that passed, and the largest resident memory in KB.
With shards, as many processes as shards work side by side.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.load import HERE, serving
from benchmarks.zones import domain

LIMITS = (
    "--allow-special-purpose", "--interval", "0", "--rate", "100000", "--per-operator", "100000",
    "--ehlo-name", "scanner.bench.example", "--contact", "postmaster@bench.example", "--json",
)  # fmt: skip


def mxcensus(*arguments: object, output: Path) -> subprocess.Popen[bytes]:
    """Start the program; its two outputs go to `output`."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mxcensus", *map(str, arguments)],
            cwd=HERE.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def ended(process: subprocess.Popen[bytes], output: Path) -> tuple[float, int]:
    """CPU seconds and largest resident KB of a process that has to end well."""
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(output.read_text(encoding="utf-8")[-2000:])
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def census(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    targets = folder / "domains.txt"
    with targets.open("w", encoding="ascii") as file:
        file.writelines(f"{domain(number)}\n" for number in range(options.domains))
    with (
        serving("zones.py", options.domains, options.hosts) as dns,
        serving("farm.py", options.latency) as smtp,
    ):
        began = time.monotonic()
        running = []
        for shard in range(1, options.shards + 1):
            output = folder / f"scan{shard}.log"
            part = ("--shard", f"{shard}/{options.shards}", "--seed", 1) if options.shards > 1 else ()
            scan = mxcensus(
                "scan", "-f", targets, "--db", f"sqlite:///{folder}/{shard}.db", "--port", smtp,
                "--resolver", f"127.0.0.1:{dns}", "--concurrency", options.concurrency, *LIMITS, *part,
                output=output,
            )  # fmt: skip
            running.append((scan, output))
        costs = [ended(scan, output) for scan, output in running]
        seconds = time.monotonic() - began
    output = folder / "report.json"
    report = mxcensus("report", "--db", f"sqlite:///{folder}/1.db", "--format", "json", output=output)
    costs.append(ended(report, output))
    result = {"cpu": sum(cpu for cpu, _ in costs), "seconds": seconds, "peak_kb": max(kb for _, kb in costs)}
    return result | {"report_cpu": costs[-1][0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domains", type=int)
    parser.add_argument("hosts", type=int)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--latency", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=300)
    with tempfile.TemporaryDirectory(prefix="bench-census-") as folder:
        print(json.dumps(census(parser.parse_args(), Path(folder))))


if __name__ == "__main__":
    main()
