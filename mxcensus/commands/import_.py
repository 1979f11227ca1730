"""`mxcensus import FILE...`: certificates or scans that somebody already has, as a census of their own."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from mxcensus import importing
from mxcensus.commands import common
from reports import text
from scanner.records import Role
from storage.database import open_database

SAID = 20
"""How many entries that were left out are said one by one."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("import", help="certificates or scans that somebody already has")
    parser.set_defaults(run=run)
    common.add_database(parser)
    common.add_trust(parser)
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="PEM, DER, PKCS#7, JSON Lines, zgrab2's SMTP lines, directories",
    )
    parser.add_argument(
        "--role",
        choices=(Role.SERVER.value, Role.CLIENT.value),
        default=Role.SERVER.value,
        help="of certificates that do not say (default %(default)s)",
    )
    parser.add_argument(
        "--day", type=_day, metavar="DATE", help="YYYY-MM-DD: the day that the census is of (default: today)"
    )
    parser.add_argument("--label", metavar="TEXT", help="a name for people, stored with the census")


def run(arguments: argparse.Namespace) -> int:
    left_out: Counter[str] = Counter()

    def skipped(where: str, why: str) -> None:
        left_out["all"] += 1
        if left_out["all"] <= SAID:
            print(f"mxcensus: {text.show(where, 300)}: skipped: {text.show(why)}", file=sys.stderr)

    order = importing.Order(arguments.paths, Role(arguments.role), arguments.day, arguments.label)
    trust = common.trust(arguments)
    database = open_database(common.database_url(arguments), create=True)
    try:
        imported = importing.run(database, trust, order, skipped)
    finally:
        database.close()
    print(json.dumps(asdict(imported)))
    if imported.skipped > SAID:
        print(f"mxcensus: {imported.skipped - SAID} more skipped", file=sys.stderr)
    return 2 if imported.skipped else 0


def _day(given: str) -> date:
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is not a day YYYY-MM-DD") from None
