"""`mxcensus report`: the full figures of one scan, in one format a call."""

import argparse
from pathlib import Path
from typing import Any

from mxcensus import reporting
from mxcensus.commands import common


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("report", help="full figures of one scan")
    parser.set_defaults(run=run)
    common.add_scan(parser)
    parser.add_argument(
        "--clients",
        type=common.positive,
        metavar="ID",
        help="take the figures of role client from this scan (of `listen` or `import`; default: the same)",
    )
    parser.add_argument("--format", choices=reporting.FORMATS, default="md", help="(default %(default)s)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="a file (default: standard output); for svg and png a directory",
    )


def run(arguments: argparse.Namespace) -> int:
    database = common.open_existing(arguments)
    try:
        report = reporting.build(database, arguments.scan, arguments.clients)
        reporting.write(report, arguments.format, arguments.output)
    finally:
        database.close()
    return 0
