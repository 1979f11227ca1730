"""Options and openings that several commands share."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mxcensus import hiding, settings, snapshots
from scanner.trust import TrustSnapshot

if TYPE_CHECKING:
    from storage.database import Database

Number = TypeVar("Number", int, float)


class BadUsage(ValueError):
    """An option that cannot be used; the message is one line."""


def add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db", metavar="URL", help=f"the database, or env:NAME (default {settings.DEFAULT_DB}, or settings)"
    )


def add_scan(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.add_argument("--scan", type=positive, metavar="ID", help="the scan's number (default: the latest)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", type=Path, metavar="DIR", help="a trust snapshot instead of your own, or the bundled one"
    )


def database_url(arguments: argparse.Namespace) -> str:
    """The URL that the command line, or else the settings, give or name by an environment variable."""
    given: str | None = arguments.db
    url = given or settings.load(settings.folder()).db
    if not url.startswith(hiding.PREFIX):
        return url
    name = url.removeprefix(hiding.PREFIX)
    if not os.environ.get(name):
        raise BadUsage(f"--db {url}: the environment variable {name} is not set")
    return os.environ[name]


def open_existing(arguments: argparse.Namespace) -> "Database":
    """The database of a command that only reads: it has to be there."""
    from storage.database import open_database  # noqa: PLC0415  # not for commands without one: it takes a while

    return open_database(database_url(arguments), create=False)


def trust(arguments: argparse.Namespace) -> TrustSnapshot:
    return snapshots.in_use(arguments.trust)


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    return _number(text, int, 1)


def not_negative(text: str) -> float:
    """An argument that is a finite number of at least 0."""
    return _number(text, float, 0)


def port(text: str) -> int:
    """A TCP port."""
    number = positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return number


def _number(text: str, kind: type[Number], least: Number) -> Number:
    try:
        number = kind(text)
        if least <= number < float("inf"):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least {least}")
