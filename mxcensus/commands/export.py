"""`mxcensus export`: the rows of one scan, failures included; one kind a call."""

import argparse
from pathlib import Path
from typing import Any

from mxcensus.commands import common
from reports import rows
from scanner.certificates import name_matches
from storage import reader
from storage.columns import COLUMNS


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("export", help="rows of one scan: domains, endpoints or certificates")
    parser.set_defaults(run=run)
    common.add_scan(parser)
    parser.add_argument("--what", choices=sorted(COLUMNS), required=True)
    parser.add_argument("--format", choices=sorted(rows.FORMATS), default="jsonl", help="(default %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="a file (default: standard output)")


def run(arguments: argparse.Namespace) -> int:
    database = common.open_existing(arguments)
    try:
        scan = database.scan_info(arguments.scan).scan
        stream = {
            "domains": lambda: reader.domains(database, scan),
            "endpoints": lambda: reader.endpoints(database, scan, name_matches),
            "certificates": lambda: reader.certificates(database, scan),
        }[arguments.what]()
        rows.export(stream, arguments.what, arguments.format, arguments.output)
    finally:
        database.close()
    return 0
