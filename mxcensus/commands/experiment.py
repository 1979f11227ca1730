"""`mxcensus experiment`: client certificates of different EKU, against one's own lab or consenting operators."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mxcensus import experimenting, lab_certificates
from mxcensus.commands import common
from mxcensus.commands.scan import add_connection_log, add_politeness, make_plan
from mxcensus.steps import now
from reports import text
from scanner import addresses
from scanner.client_certificates import Variant, read_variant
from scanner.experiment import CONTROL
from scanner.targets import BadTarget, parse_domain

PASSPHRASE = "MXCENSUS_KEY_PASSPHRASE"  # noqa: S105  # the name of the variable, not what is in it


class BadUsage(ValueError):
    """Options that do not go together; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "experiment",
        help="try client certificates of different EKU on one's own servers, or with approval on others",
    )
    # What a scan's plan has and an experiment does not.
    parser.set_defaults(run=run, label=None, resume=False, names_per_address=1, trust=None)
    add = parser.add_argument
    add("hosts", nargs="*", metavar="HOST", help="a host name or an address")
    add("-f", "--file", type=Path, metavar="FILE", help="a host a line; # begins a comment")
    add(
        "--client-cert",
        action="append",
        default=[],
        metavar="LABEL=FILE",
        help="PEM with certificate, chain and key (repeatable)",
    )
    add(
        "--make-certificates",
        type=Path,
        metavar="DIR",
        help="make one of each EKU and their CA there, and use them",
    )
    add("--approval", metavar="TEXT", help="the ethics reference; stored; needed for machines of others")
    common.add_scan(parser)
    add("--resolver", action="append", metavar="HOST[:PORT]", help="a DNS resolver (default: the system's)")
    add("--exclude", action="append", type=Path, metavar="FILE", help="opt-outs, as for scan")
    add("--port", type=common.port, default=25, metavar="N", help="the SMTP port (25)")
    add(
        "--allow-special-purpose",
        action="store_true",
        help="also use loopback, private and other special addresses",
    )
    add_politeness(parser)
    add("--seed", type=int, metavar="N", help="order and draws (default: a random one, stored)")
    add(
        "--show",
        type=common.positive,
        metavar="N",
        help="print experiment N of the database again, and contact nobody",
    )
    add("--json", action="store_true", help="one JSON object on standard output")
    add("--verbose", action="store_true", help="print every dialogue, line by line, on standard error")
    add_connection_log(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.show is not None:
        database = common.open_existing(arguments)
        try:
            return _print(experimenting.stored(database, arguments.show), as_json=arguments.json)
        finally:
            database.close()
    variants = read_variants(arguments.client_cert, arguments.make_certificates)
    plan = make_plan(arguments)
    hosts = read_hosts(arguments.hosts, arguments.file)
    if not hosts and arguments.make_certificates is not None:
        print(f"{len(variants)} certificates in {arguments.make_certificates}: have servers trust ca.pem")
        return 0
    if not hosts:
        raise BadUsage("no host to experiment with")
    if not variants:
        raise BadUsage("no certificate to present: use --client-cert LABEL=FILE or --make-certificates DIR")
    request = experimenting.Request(hosts, variants, arguments.approval, arguments.scan)
    outcomes = experimenting.run(plan, request)
    return _print(outcomes, as_json=arguments.json)


def _print(outcomes: experimenting.Outcomes, *, as_json: bool) -> int:
    if as_json:
        found = {"experiment": outcomes.experiment, "scan": outcomes.scan, "approval": outcomes.approval}
        print(json.dumps({**found, "trials": list(outcomes.trials)}))
    else:
        _say(outcomes)
    return outcomes.exit_status


def read_variants(words: list[str], folder: Path | None) -> list[Variant]:
    """The client certificates, all readable and usable now. Raises ValueErrors and OSErrors of one line."""
    files = lab_certificates.made(folder) if folder is not None else {}
    for word in words:
        label, separator, file = word.partition("=")
        if not separator or not file:
            raise BadUsage(f"--client-cert {word}: use LABEL=FILE")
        if label in files or label == CONTROL:
            raise BadUsage(f"--client-cert {word}: the label {label!r} is taken")
        files[label] = Path(file)
    passphrase = os.environ.get(PASSPHRASE)
    secret = None if passphrase is None else passphrase.encode()
    return [read_variant(label, file.read_bytes(), str(file), secret, now()) for label, file in files.items()]


def read_hosts(words: list[str], file: Path | None) -> list[str]:
    """Host names as A-labels and addresses in canonical text. Raises `BadUsage` with the line's number."""
    named = [("", word) for word in words]
    if file is not None:
        with file.open(encoding="utf-8", errors="surrogateescape") as lines:
            named += [
                (f"{file}:{number}: ", line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)
            ]
    hosts = []
    for where, word in named:
        if word:
            try:
                hosts.append(_host(word))
            except BadTarget as error:
                raise BadUsage(f"{where}{error}") from error
    return list(dict.fromkeys(hosts))


def _host(word: str) -> str:
    try:
        return addresses.canonical(word.strip("[]"))
    except ValueError:
        return parse_domain(word)


def _say(outcomes: experimenting.Outcomes) -> None:
    for row in outcomes.trials:
        place = f"{row['mx_host']} [{row['address']}]:{row['port']}"
        print(text.show(f"{place}  {row['variant']}: {_words(row)}", 500))
    print(f"experiment {outcomes.experiment}: {len(outcomes.trials)} trials", file=sys.stderr)


_SAID = {
    "accepted": "accepted",
    "alert": "TLS alert {tls_alert}",
    "closed": "closed",
    "reply": "{detail}",
    "failed": "failed at {stage}: {failure}",
    "not-tested": "not tested: {reason}",
}


def _words(row: dict[str, Any]) -> str:
    """What a person reads of one trial."""
    said = _SAID[row["outcome"]].format(**row)
    changes = [f"+{word}" for word in row["keywords_added"] or ()]
    changes += [f"-{word}" for word in row["keywords_removed"] or ()]
    if changes:
        said += f"; keywords {', '.join(changes)}"
    unasked = row["outcome"] == "accepted" and row["variant"] != CONTROL and not row["presented"]
    return f"{said}; not asked for" if unasked else said
