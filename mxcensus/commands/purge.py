"""`mxcensus purge`: delete what an opted-out name or network left, or whole scans whose time is over.

It says what went, table by table, and what a program cannot reach.
"""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from mxcensus import retention
from mxcensus.commands import common
from mxcensus.fleet.forgetting import forget_purged
from mxcensus.steps import now
from scanner.exclusions import Entry, read_entry
from storage.database import Database
from storage.purge import purge
from storage.retention import old_experiments

OUT_OF_REACH = (
    "out of reach, look for them yourself: exports (jsonl, csv, parquet), reports and releases written earlier,"
    " logs and --verbose output, copies and backups of the database, snapshots of its disk, and on PostgreSQL the"
    " write-ahead log archive, replicas, and pages until VACUUM has run"
)
TO_STAY = "a scan that is running or repeated can store it again: add the pattern to the list of --exclude first"
FACTS_STAY = "certificates, lists and CA names that no scan refers to any more stay while scan"
WHAT = "purge what? give a PATTERN, --scan ID or --before DATE, one of the three"
REPORTS = "figures go with the rows: name a folder with --keep-reports DIR, or say --no-reports"


class BadPattern(ValueError):
    """What to purge cannot be read; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("purge", help="delete what an opted-out name or network left, or whole old scans")
    parser.set_defaults(run=run)
    common.add_database(parser)
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object: what was purged, and rows deleted by table")
    add("pattern", nargs="?", metavar="PATTERN", help="example.com, *.example.com, mx:host, an address or CIDR")
    add("--scan", type=common.positive, action="append", metavar="ID", help="this whole scan (repeatable)")
    add("--before", type=_day, metavar="DATE", help="all scans and experiments that ended before DATE (UTC)")
    add("--keep-reports", type=Path, metavar="DIR", help="write the report of each scan there first, as JSON")
    add("--no-reports", action="store_true", help="keep no figures of the scans")


def run(arguments: argparse.Namespace) -> int:
    given = (arguments.pattern, arguments.scan, arguments.before)
    if sum(one is not None for one in given) != 1:
        raise common.BadUsage(WHAT)
    if (arguments.keep_reports is not None) + arguments.no_reports != (arguments.pattern is None):
        raise common.BadUsage(REPORTS if arguments.pattern is None else "reports are kept of whole scans only")
    run_one = _run_scans if arguments.pattern is None else _run_pattern
    return run_one(arguments)


def _run_pattern(arguments: argparse.Namespace) -> int:
    try:
        entry = read_entry(arguments.pattern)
    except ValueError as error:
        raise BadPattern(f"purge {error}") from error
    database = common.open_existing(arguments)
    try:
        deleted = purge(database, **selection(entry)) | forget_purged(database)
    finally:
        database.close()
    gone = _gone(deleted)
    if arguments.json:
        print(json.dumps({"pattern": arguments.pattern, "deleted": gone}))
        return 0
    if not gone:
        print(f"nothing that is stored matches {arguments.pattern}")
    _say(gone)
    print(TO_STAY)
    print(OUT_OF_REACH)
    return 0


def _run_scans(arguments: argparse.Namespace) -> int:
    database = common.open_existing(arguments)
    try:
        scans, experiments = _over(arguments, database)
        removed = retention.remove(database, scans, experiments, arguments.keep_reports, now())
    finally:
        database.close()
    gone, kept = _gone(removed.deleted), [str(path) for path in removed.reports]
    if arguments.json:
        found = {"scans": list(removed.scans), "experiments": list(removed.experiments)}
        print(json.dumps({**found, "deleted": gone, "reports": kept, "running": list(removed.running)}))
        return 0
    for kind, numbers in (("scan", removed.scans), ("experiment", removed.experiments)):
        for number in numbers:
            print(f"{kind} {number} removed")
    if not scans and not experiments:
        print(f"nothing ended before {arguments.before.date()}")
    _say(gone)
    for path in kept:
        print(f"figures kept: {path}")
    for number in removed.running:
        print(f"{FACTS_STAY} {number} runs: purge again when it has ended")
    print(OUT_OF_REACH)
    return 0


def _over(arguments: argparse.Namespace, database: Database) -> tuple[list[int], list[int]]:
    """The scans and experiments that are meant."""
    if arguments.scan is not None:
        return retention.ended(database, arguments.scan, now()), []
    if arguments.before > now():
        raise common.BadUsage("--before: what is still to come has not ended")
    return retention.old_scans(database, arguments.before), old_experiments(database, arguments.before)


def _day(text: str) -> datetime:
    """The beginning of a day, UTC."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date (YYYY-MM-DD)") from None


def selection(entry: Entry) -> Mapping[str, str]:
    """What an opt-out means to the storage: a plain name is a domain and the MX host of that name."""
    if entry.network is not None:
        return {"network": str(entry.network)}
    name = f"*.{entry.name}" if entry.below else entry.name
    return {"host": name} if entry.only_mx else {"domain": name, "host": name}


def _gone(deleted: Mapping[str, int]) -> dict[str, int]:
    return {table: count for table, count in sorted(deleted.items()) if count}


def _say(gone: Mapping[str, int]) -> None:
    width = max(map(len, gone), default=0)
    for table, count in gone.items():
        print(f"{table:{width}}  {count} {'row' if count == 1 else 'rows'} deleted")
