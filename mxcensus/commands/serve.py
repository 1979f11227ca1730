"""`mxcensus serve`: the read-only dashboard, on loopback unless another address and a token are given."""

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from typing import Any

from mxcensus import reporting
from mxcensus.commands import common
from reports.figures import Report
from scanner.records import ScanInfo
from storage.database import Database
from storage.standing import Standing, standing


class BadAddress(ValueError):
    """An address that must not be served without a token; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("serve", help="read-only dashboard")
    parser.set_defaults(run=run)
    common.add_database(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="(default %(default)s)")
    parser.add_argument("--port", type=common.port, default=8025, metavar="N", help="(default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """The token comes from the environment, where no process list shows it."""
    token = os.environ.get("MXCENSUS_TOKEN") or None
    if token is None and not _is_loopback(arguments.host):
        raise BadAddress(f"--host {arguments.host} needs a token: set MXCENSUS_TOKEN")
    try:
        import uvicorn  # noqa: PLC0415  # the extra `dashboard`

        from reports.dashboard import application  # noqa: PLC0415
    except ImportError:
        raise BadAddress("the dashboard needs the extra `dashboard`: pip install 'mxcensus[dashboard]'") from None
    database = common.open_existing(arguments)
    try:
        served = application(Stored(database), token)
        print(f"dashboard: {_url(arguments.host, arguments.port)} (Ctrl-C ends it)", file=sys.stderr)
        uvicorn.run(served, host=arguments.host, port=arguments.port, log_level="warning", server_header=False)
    finally:
        database.close()
    return 0


class Stored:
    """What the dashboard shows, read from a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def scans(self) -> Sequence[ScanInfo]:
        return self._database.scans()

    def report(self, scan: int) -> Report:
        return reporting.build(self._database, scan)

    def standing(self, scan: int) -> Standing:
        with self._database.reading() as connection:
            return standing(connection, scan)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
