"""`mxcensus serve`: the read-only dashboard, on loopback unless another address and a token are given."""

import argparse
import ipaddress
import os
from typing import Any

from mxcensus import reporting
from mxcensus.commands import common


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
        served = application(database.scans, lambda scan: reporting.build(database, scan), token)
        uvicorn.run(served, host=arguments.host, port=arguments.port, log_level="warning", server_header=False)
    finally:
        database.close()
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
