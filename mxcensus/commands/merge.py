"""`mxcensus merge`: several publishers' releases together, as bounds; or a refusal that says why."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mxcensus import releases
from reports import rows
from reports.definitions import Unit
from reports.disclosure import merging
from reports.disclosure.cells import UNITS
from reports.disclosure.rules import RefusedError

RENDERERS: Mapping[str, Callable[[merging.Merged], str]] = {"json": merging.as_json, "md": merging.as_markdown}


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("merge", help="releases of several publishers together")
    parser.set_defaults(run=run)
    parser.add_argument("releases", nargs="+", type=Path, metavar="RELEASE.json")
    parser.add_argument(
        "--disjoint",
        action="append",
        default=[],
        choices=[str(unit) for unit in UNITS],
        metavar="UNIT",
        help="the publishers declare that they have no such unit in common; repeatable",
    )
    parser.add_argument(
        "--days", type=int, default=0, metavar="N", help="how far apart the date windows may be (default 0)"
    )
    parser.add_argument("--format", choices=sorted(RENDERERS), default="json", help="(default %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="a file (default: standard output)")


def run(arguments: argparse.Namespace) -> int:
    given = [releases.read(path).release for path in arguments.releases]
    try:
        merged = merging.merge(given, frozenset(map(Unit, arguments.disjoint)), arguments.days)
    except RefusedError as error:
        print(f"mxcensus: {error}", file=sys.stderr)
        return 1
    with rows.output(arguments.output) as out:
        out.write(RENDERERS[arguments.format](merged))
    return 0
