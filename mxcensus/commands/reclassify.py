"""`mxcensus reclassify`: recompute classifications from stored facts, without traffic, and say what changed."""

import argparse
import json
from typing import Any

from mxcensus import classification
from mxcensus.commands import common


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("reclassify", help="recompute stored classifications, without traffic")
    parser.set_defaults(run=run)
    common.add_database(parser)
    parser.add_argument("--scan", type=common.positive, metavar="ID", help="the scan's number (default: all scans)")
    common.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: what changed, and what did not")


def run(arguments: argparse.Namespace) -> int:
    trust = common.trust(arguments)
    database = common.open_existing(arguments)
    try:
        scans = database.scans() if arguments.scan is None else [database.scan_info(arguments.scan)]
        found = []
        for info in scans:
            changed = classification.classify_scan(database, info.scan, trust)
            if arguments.json:
                found.append(classification.document(changed))
            else:
                for line in classification.lines(changed):
                    print(line, flush=True)
    finally:
        database.close()
    if arguments.json:
        print(json.dumps({"scans": found}))
    elif not scans:
        print("the database has no scan")
    return 0
