"""`mxcensus merge-scans`: the scans of all shards of a census into one scan of one database."""

import argparse
import json
from typing import Any

from mxcensus import merging
from mxcensus.commands import common


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("merge-scans", help="join the scans that scan --shard I/N made into one")
    parser.set_defaults(run=run)
    common.add_database(parser)
    common.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("shards", nargs="+", metavar="FILE", help="a shard's SQLite file, or its database's URL")


def run(arguments: argparse.Namespace) -> int:
    joined = merging.merge(arguments.shards, common.database_url(arguments), common.trust(arguments))
    if arguments.json:
        print(json.dumps(joined.as_dict()))
        return 0
    print(f"scan {joined.scan}: {joined.shards - len(joined.missing)} of {joined.shards} shards, {joined.state}")
    if joined.missing:
        print(f"missing: {', '.join(f'{number}/{joined.shards}' for number in joined.missing)}")
    if left := joined.unseen + joined.work:
        print(f"{left} endpoints are not contacted yet: scan --resume on the joined database does it")
    return 0
