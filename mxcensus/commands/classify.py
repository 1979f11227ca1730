"""`mxcensus classify`: EKU class and hierarchy of certificates in files; no network, no database.

Every certificate is a subject, and all inputs together are the pool of issuers.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mxcensus.commands import common
from reports import text
from scanner import certificates
from scanner.classify import Classifier
from scanner.inputs import BadInput, read_certificates
from scanner.records import Certificate, Classification
from storage.reader import certificate_row


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("classify", help="EKU class and hierarchy of certificates in files; no network")
    parser.set_defaults(run=run)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="PEM, DER, PKCS#7, JSON Lines, directories")
    common.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="JSON Lines of certificates rows, with their source")


def run(arguments: argparse.Namespace) -> int:
    raise NotImplementedError
