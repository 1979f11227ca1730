"""`mxcensus publish`: a release, which is figures that passed disclosure control; or a refusal, and no file."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mxcensus.commands import common
from reports.disclosure.rules import RefusedError, Rules

LEAST = 3


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("publish", help="figures that passed disclosure control, to be published")
    parser.set_defaults(run=run)
    common.add_scan(parser)
    common.add_trust(parser)
    parser.add_argument(
        "--min-count",
        type=threshold,
        default=Rules().min_count,
        metavar="K",
        help="operators that a number needs (default %(default)s)",
    )
    parser.add_argument(
        "--round", type=common.positive, default=1, metavar="N", help="round counts to multiples of N"
    )
    parser.add_argument(
        "--previous",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a release.json that is out already, of the same or overlapping data; repeatable",
    )
    parser.add_argument(
        "--population", default="not stated", metavar="TEXT", help="what the domains are; released as it is"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="a new directory")


class MissingExtra(ValueError):
    """The extra is not installed; the message is one line."""


def run(arguments: argparse.Namespace) -> int:
    try:
        from mxcensus import publishing  # noqa: PLC0415  # the extra `release`
    except ImportError:
        raise MissingExtra("publish needs the extra `release`: pip install 'mxcensus[release]'") from None
    options = publishing.Options(
        Rules(arguments.min_count),
        arguments.round,
        arguments.population,
        tuple(arguments.previous),
        common.trust(arguments),
    )
    database = common.open_existing(arguments)
    try:
        release = publishing.build(database, arguments.scan, options)
    except RefusedError as error:
        print(f"mxcensus: {error}", file=sys.stderr)
        return 1
    finally:
        database.close()
    names = publishing.write(release, arguments.output)
    rows = [row for figure in release.figures for row in figure.rows]
    hidden = sum(row.count is None for row in rows)
    print(f"{arguments.output}: {', '.join(names)}; {len(rows)} rows, {hidden} of them hidden")
    return 0


def threshold(text: str) -> int:
    """An argument that is a threshold: below 3, two operators could tell each other's number."""
    number = common.positive(text)
    if number < LEAST:
        raise argparse.ArgumentTypeError(f"{text!r} is below {LEAST}")
    return number
