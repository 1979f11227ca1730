"""`make bench`: what mxcensus costs, as ratios to the handshake floor that is measured in the same run.

Machines are noisy, so every figure is CPU time of the scanner's own processes per unit. The load runs in processes
of its own on loopback: a farm of STARTTLS servers, and NSD or a dummy name server. Prints a Markdown table. With
names of rows only those are measured; `--large` makes the census of `growth` a million domains.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from benchmarks.load import HERE, measured, serving

Rows = Iterator[tuple[str, str, str]]


def floor() -> float:
    """Seconds of CPU of one handshake, on the client's side."""
    return float(measured("floor.py", 2000))


def endpoints(count: int, concurrency: int, latency_ms: int) -> dict[str, float]:
    with serving("farm.py", latency_ms) as port, tempfile.TemporaryDirectory() as folder:
        result: dict[str, float] = json.loads(
            measured("endpoints.py", port, count, concurrency, f"sqlite:///{folder}/bench.db")
        )
    assert result["measured"] == count, result
    return result


def census(*arguments: object) -> dict[str, float]:
    result: dict[str, float] = json.loads(measured("census.py", *arguments))
    return result


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """URLs of empty databases: SQLite, and PostgreSQL where its server programs are installed."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from postgres import SHIPPED, Cluster, programs  # noqa: PLC0415  # the tests' own

    with tempfile.TemporaryDirectory() as folder:
        found = {"SQLite": f"sqlite:///{folder}/bench.db"}
        binaries = programs()
        if binaries is None:
            yield found
            return
        cluster = Cluster(binaries, SHIPPED)
        try:
            yield found | {"PostgreSQL": cluster.database()}
        finally:
            cluster.destroy()


# -------------------------------------------------------------------------------------------------- the rows


def endpoint(options: argparse.Namespace) -> Rows:
    before = floor()
    result = endpoints(options.endpoints, 300, 0)
    each, routing = result["cpu"] / options.endpoints, result["cpu_routing"] / options.endpoints
    handshake = (before + floor()) / 2
    yield "handshake floor", f"{handshake * 1000:.3f} ms", ""
    what = f"CPU per endpoint, everything but DNS, {options.endpoints:,} endpoints, rows in SQLite"
    yield what, f"{each * 1000:.3f} ms, {each / handshake:.2f} floors", "2.5 floors"
    yield "its targets and routing stored before, a host an endpoint", f"{routing * 1000:.3f} ms", ""


def lookup(_: argparse.Namespace) -> Rows:
    result = json.loads(measured("lookups.py", 50_000))
    yield "CPU per MX lookup, answer read and routing decided", f"{result['cpu_ms']:.3f} ms", ""
    yield "the same with routing stored in SQLite", f"{result['stored_ms']:.3f} ms", "0.1 ms"


def memory(options: argparse.Namespace) -> Rows:
    slow = endpoints(2 * options.in_flight, options.in_flight, 300)
    each = (slow["peak_kb"] - slow["idle_kb"]) / slow["peak_in_flight"]
    yield (
        f"memory per session, {slow['peak_in_flight']:,.0f} in flight, replies of 300 ms",
        f"{each:.0f} KB",
        "70 KB",
    )


def cores(_: argparse.Namespace) -> Rows:
    one, two = census(20_000, 10_000), census(20_000, 10_000, "--shards", 2)
    yield "CPU of two processes, against one", f"{two['cpu'] / one['cpu']:.2f}", "1.1"
    slow = ("--latency", 300, "--concurrency", 50)
    one, two = census(1_000, 1_000, *slow), census(1_000, 1_000, *slow, "--shards", 2)
    ratio = two["seconds"] / one["seconds"]
    yield "time of two processes, against one, replies of 300 ms, 50 sessions each", f"{ratio:.2f}", "0.5"


def growth(options: argparse.Namespace) -> Rows:
    sizes = (10_000, 100_000, 1_000_000) if options.large else (10_000, 100_000)
    results = [census(size, size // 5) for size in sizes]
    costs = [result["cpu"] / size for result, size in zip(results, sizes, strict=True)]
    whole = f"{costs[1] * 1000:.3f} ms of CPU a domain"
    yield "100,000 domains on 20,000 endpoints, NSD, from file to report", whole, ""
    for size, result, cost in zip(sizes[1:], results[1:], costs[1:], strict=True):
        yield f"CPU a domain of {size:,}, against 10,000", f"{cost / costs[0]:.2f}", "1.1"
        if size > sizes[1]:
            ratio = result["peak_kb"] / results[1]["peak_kb"]
            yield (
                f"resident memory of {size:,}, against 100,000",
                f"{ratio:.2f} ({result['peak_kb'] / 1024:.0f} MB)",
                "1.2",
            )


def report(options: argparse.Namespace) -> Rows:
    bounds = {"SQLite": "10 s", "PostgreSQL": "5 s"}
    with databases() as urls:
        for name, url in urls.items():
            result = json.loads(measured("report.py", url, options.domains))
            what = f"figures of a census of {options.domains:,} domains, {name}"
            yield what, f"{result['seconds']:.1f} s", bounds[name]
            yield f"its page in HTML, {name}", f"{result['page_bytes'] / 1e6:.2f} MB", "3 MB"


def writing(_: argparse.Namespace) -> Rows:
    with databases() as urls:
        for name, url in urls.items():
            result = json.loads(measured("writing.py", url))
            yield f"endpoint rows written a second, {name}", f"{result['rows_a_second']:,.0f}", "20,000"
            yield f"longest pause of the event loop, {name}", f"{result['longest_pause_ms']:.0f} ms", "20 ms"


ROWS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    function.__name__: function for function in (endpoint, lookup, memory, cores, growth, report, writing)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; by default all")
    parser.add_argument("--endpoints", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=5_000)
    parser.add_argument("--domains", type=int, default=1_000_000)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}\n")
    print("| what | measured | target |\n|---|---|---|", flush=True)
    for name in options.rows or ROWS:
        for row in ROWS[name](options):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
