"""`mxcensus compare A B`: transitions between two scans of one database, and what could not be matched."""

import argparse
import json
from typing import Any

from mxcensus.commands import common
from reports import comparison
from scanner.certificates import name_matches
from storage import reader
from storage.database import Database


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("compare", help="transitions and differences between two scans")
    parser.set_defaults(run=run)
    common.add_database(parser)
    parser.add_argument("before", type=common.positive, metavar="A", help="the earlier scan's number")
    parser.add_argument("after", type=common.positive, metavar="B", help="the later scan's number")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(arguments: argparse.Namespace) -> int:
    database = common.open_existing(arguments)
    try:
        before, after = (database.scan_info(number) for number in (arguments.before, arguments.after))
        changes = comparison.compare(_side(database, before.scan), _side(database, after.scan))
    finally:
        database.close()
    if arguments.json:
        print(json.dumps({"before": before.scan, "after": after.scan, "units": comparison.document(changes)}))
    else:
        for line in comparison.lines(changes):
            print(line)
    return 0


def _side(database: Database, scan: int) -> comparison.Side:
    return comparison.side(reader.endpoints(database, scan, name_matches), reader.domains(database, scan))
