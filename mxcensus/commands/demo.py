"""`mxcensus demo`: the main job on a small Internet on loopback; no network, no root.

Real sockets, real handshakes, the real scan: only the servers and their certificates belong to the lab.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from lab.population import cell_size
from lab.process import WorldProcess
from mxcensus import inputs, reporting, scanning
from mxcensus.plan import Plan
from mxcensus.progress import Display
from scanner.exclusions import Exclusions
from scanner.pace import Limits
from scanner.scan import ScanSettings
from scanner.trust import load
from storage.database import open_database

DOMAINS = cell_size()
SEED = 2026
FORMATS = ("html", "md", "json", "csv")


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("demo", help="the main job on a small Internet on loopback: no network, no root")
    parser.set_defaults(run=run)
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="DIR", help="(default ./demo)")


def run(arguments: argparse.Namespace) -> int:
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{output / 'census.db'}"
    with tempfile.TemporaryDirectory() as folder, WorldProcess(DOMAINS, Path(folder)) as world:
        print(f"A lab of {DOMAINS} domains and {len(world.population.hosts)} mail servers runs on loopback.")
        outcome = scanning.run(_plan(world, url), _targets(world, Path(folder)), Display(plain=False))
    scanning.print_summary(url, outcome)
    database = open_database(url, create=False)
    try:
        report = reporting.build(database, outcome.scan)
    finally:
        database.close()
    for form in FORMATS:
        reporting.write(report, form, output / f"report.{form}")
    print(f"rows: {output / 'census.db'}; report: {', '.join(str(output / f'report.{form}') for form in FORMATS)}")
    return outcome.exit_status


def _targets(world: WorldProcess, folder: Path) -> inputs.Targets:
    return inputs.Targets([], str(world.write_targets(folder / "domains.csv")), Exclusions())


def _plan(world: WorldProcess, url: str) -> Plan:
    """Loopback belongs to us, so the demo may be quick where a real scan is patient."""
    return Plan(
        database=url,
        trust=load(world.snapshot),
        label="demo",
        resolvers=inputs.resolvers([world.resolver]),
        exclusions=Exclusions(),
        ehlo_name="census.example",
        contact="the demo, on this machine",
        allow_special_purpose=True,
        timeout=10.0,
        resume=False,
        verbose=False,
        mta_sts=True,
        mta_sts_port=world.https_port,
        scan=ScanSettings(seed=SEED, port=world.port, limits=Limits(interval=0.2, per_operator=100, rate=1000.0)),
    )
