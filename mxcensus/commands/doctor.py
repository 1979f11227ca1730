"""`mxcensus doctor`: is everything ready for a scan, and what should be published before one."""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mxcensus import doctor
from mxcensus.commands import common, scan
from mxcensus.doctor import Level


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("doctor", help="check everything that a scan needs, without contacting a server")
    parser.set_defaults(run=run, exclude=None, label=None, resume=False, verbose=False, seed=0)
    parser.set_defaults(allow_special_purpose=False, names_per_address=3)
    common.add_database(parser)
    common.add_trust(parser)
    scan.add_politeness(parser)
    add = parser.add_argument
    add("--resolver", action="append", metavar="HOST[:PORT]", help="a DNS resolver (default: the system's)")
    add("--port", type=common.port, default=25, metavar="N", help="the SMTP port (25)")
    add("--json", action="store_true", help="one JSON object with the findings")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="write probing.txt (RFC 9511), an information page and an opt-out text",
    )


def run(arguments: argparse.Namespace) -> int:
    plan = scan.make_plan(arguments)
    if arguments.output is not None and not (plan.ehlo_name and plan.contact):
        raise scan.BadUsage("the pages of --output need --ehlo-name and --contact")
    now = datetime.now(UTC)
    findings = doctor.examine(plan, now)
    if arguments.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{finding.level.value:8}  {finding.check:12}  {finding.text}")
    if arguments.output is not None:
        for path, text in doctor.pages(plan.ehlo_name or "", plan.contact or "", now.date()):
            file = arguments.output / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return 1 if any(finding.level is Level.FAIL for finding in findings) else 0
