"""`mxcensus purge`: delete what an opted-out name or network left, and say what a program cannot reach."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from mxcensus.commands import common
from scanner.exclusions import Entry, read_entry
from storage.purge import purge

OUT_OF_REACH = (
    "out of reach, look for them yourself: exports (jsonl, csv, parquet), reports and releases written earlier,"
    " logs and --verbose output, copies and backups of the database, snapshots of its disk, and on PostgreSQL the"
    " write-ahead log archive, replicas, and pages until VACUUM has run"
)
TO_STAY = "a scan that is running or repeated can store it again: add the pattern to the list of --exclude first"


class BadPattern(ValueError):
    """What to purge cannot be read; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("purge", help="delete what an opted-out name or network left")
    parser.set_defaults(run=run)
    common.add_database(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: the pattern, and rows deleted by table"
    )
    parser.add_argument(
        "pattern", metavar="PATTERN", help="example.com, *.example.com, mx:host, an address or CIDR"
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        entry = read_entry(arguments.pattern)
    except ValueError as error:
        raise BadPattern(f"purge {error}") from error
    database = common.open_existing(arguments)
    try:
        deleted = purge(database, **selection(entry))
    finally:
        database.close()
    gone = {table: count for table, count in sorted(deleted.items()) if count}
    if arguments.json:
        print(json.dumps({"pattern": arguments.pattern, "deleted": gone}))
    else:
        _say(arguments.pattern, gone)
    return 0


def selection(entry: Entry) -> Mapping[str, str]:
    """What an opt-out means to the storage: a plain name is a domain and the MX host of that name."""
    if entry.network is not None:
        return {"network": str(entry.network)}
    name = f"*.{entry.name}" if entry.below else entry.name
    return {"host": name} if entry.only_mx else {"domain": name, "host": name}


def _say(pattern: str, gone: Mapping[str, int]) -> None:
    if not gone:
        print(f"nothing that is stored matches {pattern}")
    width = max(map(len, gone), default=0)
    for table, count in gone.items():
        print(f"{table:{width}}  {count} {'row' if count == 1 else 'rows'} deleted")
    print(TO_STAY)
    print(OUT_OF_REACH)
