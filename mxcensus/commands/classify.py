"""`mxcensus classify`: EKU class, hierarchy and policy cohorts of certificates in files; no network, no database.

Every certificate is a subject, and all inputs together are the pool of issuers. Copies of the process share the
parsing, and once the pool is complete the subjects.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mxcensus.commands import common
from mxcensus.parallel import mapped, processors
from reports import text
from scanner import certificates
from scanner.classify import Classifier
from scanner.inputs import Skipped, SourcedCertificate, read_certificates
from scanner.policy import cohort, load_policy
from scanner.records import Certificate, Classification, PolicyRule, Role
from storage.rows import certificate_fields

HELD = 20_000
"""How many parsed certificates are kept between the two passes, and worked on together."""

FEW = 500
"""Fewer are not worth copying the process for."""

Item = TypeVar("Item")
Subject = tuple[SourcedCertificate, Certificate | None]
"""A certificate of the input, parsed or not yet."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("classify", help="EKU class and hierarchy of certificates in files; no network")
    parser.set_defaults(run=run)
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="PEM, DER, PKCS#7, JSON Lines, directories"
    )
    common.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="JSON Lines of certificates rows, with their source")


def run(arguments: argparse.Namespace) -> int:
    def sourced(skipped: Skipped) -> Iterator[SourcedCertificate]:
        for path in arguments.paths:
            yield from read_certificates(path, skipped)

    # First who may be an issuer. What fits in memory is kept; a million certificates are read twice instead.
    held: list[Subject] | None = []

    def issuers() -> Iterator[Certificate]:
        nonlocal held
        for batch in _batches(sourced(_say_skipped)):
            parsed = mapped(lambda item: certificates.parse(item.der), batch, _workers(batch))
            for item, certificate in zip(batch, parsed, strict=True):
                if held is not None:
                    held.append((item, certificate))
                    held = held if len(held) < HELD else None
                if certificate.is_ca:
                    yield certificate

    classifier = Classifier(common.trust(arguments), issuers())
    rules = [rule for rule in load_policy().rules if rule.superseded_by is None]

    def line(subject: Subject) -> str:
        item, certificate = subject
        certificate = certificate or certificates.parse(item.der)
        meaning = classifier.classify(certificate)
        return _json(item, certificate, meaning, rules) if arguments.json else _line(item, certificate, meaning)

    again = ((item, None) for item in sourced(lambda _where, _why: None))
    subjects: Iterator[Subject] = iter(held) if held is not None else again
    for batch in _batches(subjects):
        for said in mapped(line, batch, _workers(batch)):
            sys.stdout.write(f"{said}\n")
    return 0


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, HELD)):
        yield batch


def _workers(batch: Sequence[object]) -> int:
    return processors() if len(batch) >= FEW else 1


def _say_skipped(where: str, why: str) -> None:
    print(f"mxcensus: {where}: skipped: {why}", file=sys.stderr)


def _json(
    item: SourcedCertificate, certificate: Certificate, meaning: Classification, rules: Sequence[PolicyRule]
) -> str:
    """A row `certificates` as JSON, with its source, and where it stands beside each dated rule."""
    role = Role.CA if certificate.is_ca else item.role or Role.SERVER
    fields = certificate_fields(certificate, role, meaning.eku_class, asdict(meaning))
    cohorts = {
        found.rule: {
            "issued": "after" if found.issued_after else "before",
            "expires": "after" if found.expires_after else "before",
        }
        for found in cohort(certificate, rules)
    }
    return json.dumps(fields | {"cohorts": cohorts, "source": item.source})


def _line(item: SourcedCertificate, certificate: Certificate, meaning: Classification) -> str:
    """One certificate on one line: where it is, what it is for, where it comes from, who it is."""
    programs = "+".join(meaning.programs) or "none"
    subject = text.show((certificate.subject if certificate.readable else certificate.parse_error) or "")
    return f"{text.show(item.source)}: {meaning.eku_class} {meaning.hierarchy} {programs} {subject}"
