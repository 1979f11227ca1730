"""`mxcensus export`: the rows of one scan, failures included; one kind a call."""

import argparse
from datetime import UTC
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
    parser.add_argument(
        "--partitioned",
        action="store_true",
        help="with parquet: --output is a folder; write KIND/scan=ID/day=DATE/part-N.parquet below it",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="a file (default: standard output)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.partitioned and arguments.format != rows.PARQUET:
        raise common.BadUsage("--partitioned is for --format parquet")
    database = common.open_existing(arguments)
    try:
        info = database.scan_info(arguments.scan)
        scan = info.scan
        stream = {
            "domains": lambda: reader.domains(database, scan),
            "endpoints": lambda: reader.endpoints(database, scan, name_matches),
            "certificates": lambda: reader.certificates(database, scan),
        }[arguments.what]()
        if arguments.partitioned:
            day = info.started_at.astimezone(UTC).date()
            rows.export_partitions(stream, arguments.what, arguments.output, scan, day)
        else:
            rows.export(stream, arguments.what, arguments.format, arguments.output)
    finally:
        database.close()
    return 0
