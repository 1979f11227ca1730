"""`mxcensus classify`: EKU class and hierarchy of certificates in files; no network, no database.

Every certificate is a subject, and all inputs together are the pool of issuers.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mxcensus.commands import common
from reports import text
from scanner import certificates
from scanner.classify import Classifier
from scanner.inputs import SourcedCertificate, read_certificates
from scanner.records import Certificate, Classification, Role
from storage.reader import certificate_fields

HELD = 20_000
"""How many parsed certificates are kept between the two passes."""

Parsed = tuple[SourcedCertificate, Certificate]


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("classify", help="EKU class and hierarchy of certificates in files; no network")
    parser.set_defaults(run=run)
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="PEM, DER, PKCS#7, JSON Lines, directories"
    )
    common.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="JSON Lines of certificates rows, with their source")


def run(arguments: argparse.Namespace) -> int:
    skipped = 0

    def skip(where: str, why: str) -> None:
        nonlocal skipped
        skipped += 1
        print(f"mxcensus: {where}: skipped: {why}", file=sys.stderr)

    def sourced() -> Iterator[SourcedCertificate]:
        for path in arguments.paths:
            yield from read_certificates(path, skip)

    # First who may be an issuer. What fits in memory is kept; a million certificates are read twice instead.
    held: list[Parsed] | None = []
    issuers = []
    for item in sourced():
        certificate = certificates.parse(item.der)
        if certificate.is_ca:
            issuers.append(certificate)
        if held is not None:
            held.append((item, certificate))
            held = held if len(held) < HELD else None
    again = ((item, certificates.parse(item.der)) for item in sourced())
    classifier = Classifier(common.trust(arguments), issuers)
    for item, certificate in held if held is not None else again:
        meaning = classifier.classify(certificate)
        if arguments.json:
            role = Role.CA if certificate.is_ca else item.role or Role.SERVER
            fields = certificate_fields(certificate, role, meaning.eku_class, asdict(meaning))
            print(json.dumps(fields | {"source": item.source}))
        else:
            print(_line(item, certificate, meaning))
    return 0


def _line(item: SourcedCertificate, certificate: Certificate, meaning: Classification) -> str:
    """One certificate on one line: where it is, what it is for, where it comes from, who it is."""
    programs = "+".join(meaning.programs) or "none"
    subject = text.show((certificate.subject if certificate.readable else certificate.parse_error) or "")
    return f"{text.show(item.source)}: {meaning.eku_class} {meaning.hierarchy} {programs} {subject}"
