"""`mxcensus listen`: an SMTP server that takes no mail and counts the client certificates of its peers."""

import argparse
import asyncio
import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from mxcensus import inputs, listening
from mxcensus.commands import common
from scanner.listener import ListenSettings
from storage.database import open_database


class BadUsage(ValueError):
    """An option that cannot be used; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("listen", help="an SMTP server that counts client certificates and takes no mail")
    parser.set_defaults(run=run)
    common.add_database(parser)
    common.add_trust(parser)
    add = parser.add_argument
    add("--address", default="127.0.0.1", metavar="ADDRESS", help="where to listen (%(default)s)")
    add("--port", type=common.port, default=25, metavar="N", help="(default %(default)s)")
    add("--certificate", type=Path, metavar="FILE", help="PEM: certificate, chain and key (default: self-made)")
    add("--name", required=True, metavar="FQDN", help="the name to greet with")
    add("--contact", required=True, metavar="TEXT", help="who answers questions; part of every refusal")
    add("--per-address", type=common.positive, default=4, metavar="N", help="sessions at once from a prefix (4)")
    add("--max-connections", type=common.positive, default=200, metavar="N", help="sessions at once (200)")
    add("--timeout", type=common.not_negative, default=60.0, metavar="SECONDS", help="for a whole session (60)")
    add("--sessions", type=Path, metavar="FILE", help="also write a JSON line a session")
    add(
        "--retention-days",
        type=common.positive,
        default=30,
        metavar="N",
        help="how long EHLO names, prefixes and times of sessions stay (30)",
    )


def run(arguments: argparse.Namespace) -> int:
    name = inputs.ehlo_name(arguments.name) or ""
    if not arguments.contact.isascii() or not arguments.contact.isprintable() or len(arguments.contact) > 200:
        raise BadUsage("--contact must be at most 200 printable ASCII characters")
    if arguments.timeout == 0:
        raise BadUsage("--timeout must be more than 0")
    settings = ListenSettings(
        name, arguments.contact, arguments.per_address, arguments.max_connections, arguments.timeout
    )
    trust, context = common.trust(arguments), listening.context_for(arguments.certificate, name)
    log = listening.SessionLog(arguments.sessions) if arguments.sessions else None
    retention = timedelta(days=arguments.retention_days)
    database = open_database(common.database_url(arguments), create=True)
    try:
        where = (arguments.address, arguments.port)
        tally = asyncio.run(listening.run(database, trust, settings, context, where, retention, log))
    finally:
        database.close()
    print(json.dumps(asdict(tally)))
    return 0
