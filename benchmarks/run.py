"""`make bench`: what mxcensus costs, as ratios to the handshake floor that is measured in the same run.

Machines are noisy, so every figure is CPU time of the scanner's own process per unit. The load runs in processes of
its own on loopback: a farm of STARTTLS servers and a small name server. Prints a Markdown table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 900


def measured(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, HERE / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return done.stdout


@contextmanager
def farm(latency_ms: int) -> Iterator[int]:
    """The farm's port, for as long as the block runs."""
    process = subprocess.Popen(
        [sys.executable, HERE / "farm.py", str(latency_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(30)


def endpoints(count: int, concurrency: int, latency_ms: int) -> dict[str, float]:
    with farm(latency_ms) as port, tempfile.TemporaryDirectory() as folder:
        result: dict[str, float] = json.loads(
            measured("endpoints.py", port, count, concurrency, f"sqlite:///{folder}/bench.db")
        )
    assert result["measured"] == count, result
    return result


def rows(count: int, in_flight: int) -> Iterator[Sequence[str]]:
    floor = float(measured("floor.py", 2000))
    yield "handshake floor", f"{floor * 1000:.3f} ms", ""
    scan = endpoints(count, 300, 0)
    each = scan["cpu"] / count
    yield f"CPU per endpoint, {count:,} endpoints", f"{each * 1000:.3f} ms", f"{each / floor:.2f} floors (2.5)"
    lookups = json.loads(measured("lookups.py", 50_000))
    yield "CPU per MX lookup", f"{lookups['cpu_ms']:.3f} ms", "0.1 ms"
    slow = endpoints(2 * in_flight, in_flight, 300)
    each_kb = (slow["peak_kb"] - slow["idle_kb"]) / slow["peak_in_flight"]
    yield f"memory per session, {slow['peak_in_flight']:,.0f} in flight", f"{each_kb:.0f} KB", "70 KB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=2_000)
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}\n")
    print("| what | measured | against |\n|---|---|---|", flush=True)
    for row in rows(options.endpoints, options.in_flight):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
