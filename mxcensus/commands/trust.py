"""`mxcensus trust show` and `trust update`: the trust snapshot in use, and a new one from CCADB and Chromium."""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mxcensus import snapshots, trust_update
from mxcensus.commands import common
from mxcensus.trust_update import Sources
from reports.text import show as shown

DEFAULT = Sources()


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("trust", help="show the trust snapshot in use, or build a new one")
    actions = parser.add_subparsers(metavar="show|update", required=True)
    show = actions.add_parser("show", help="counts per program and purpose, dates, sources")
    show.set_defaults(run=run_show)
    common.add_trust(show)
    show.add_argument("--json", action="store_true", help="one JSON object")
    update = actions.add_parser("update", help="build a snapshot from CCADB's reports and Chromium's root store")
    update.set_defaults(run=run_update)
    add = update.add_argument
    add("--included", metavar="URL|FILE", default=DEFAULT.included, help="CCADB's included roots (%(default)s)")
    add("--records", metavar="URL|FILE", default=DEFAULT.records, help="CCADB's CA certificates (%(default)s)")
    add(
        "--pems",
        metavar="URL|FILE",
        action="append",
        help=f"CCADB's certificates, {{year}} for each year; repeatable ({DEFAULT.pems[0]})",
    )
    add(
        "--chrome", metavar="URL|FILE", default=DEFAULT.chrome, help="Chromium's root_store.textproto (%(default)s)"
    )
    common.add_trust(update)
    add("-o", "--output", type=Path, metavar="DIR", help="a new directory (default: in your configuration folder)")
    add("--allow-shrink", action="store_true", help="accept that a program loses more than a quarter of its roots")
    add("--json", action="store_true", help="one JSON object: the snapshot, and what changed")


def run_show(arguments: argparse.Namespace) -> int:
    found = common.trust(arguments)
    where = str(arguments.trust or snapshots.own() or "comes with the program")
    if arguments.json:
        print(json.dumps(snapshots.document(found, where)))
    else:
        for line in snapshots.lines(found, where):
            print(shown(line, 1000))
    return 0


def run_update(arguments: argparse.Namespace) -> int:
    sources = Sources(
        arguments.included, arguments.records, tuple(arguments.pems or DEFAULT.pems), arguments.chrome
    )
    before = common.trust(arguments)
    updated = trust_update.update(
        sources, before, datetime.now(UTC), arguments.output, allow_shrink=arguments.allow_shrink
    )
    where = str(updated.directory)
    if arguments.json:
        after = snapshots.document(updated.snapshot, where)
        print(json.dumps({"before": before.id, "snapshot": after, "difference": asdict(updated.difference)}))
        return 0
    for line in snapshots.lines(updated.snapshot, where):
        print(shown(line, 1000))
    print(f"\nagainst {before.id}:" if updated.difference else f"\nthe same roots as {before.id}")
    for kind, found in asdict(updated.difference).items():
        for line in found:
            print(shown(f"{kind:8} {line}", 1000))
    return 0
