"""`mxcensus scan`: the main job. Options in, one finished scan and its summary out."""

import argparse
import json
import secrets
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mxcensus import inputs, scanning, settings
from mxcensus.commands import common
from mxcensus.plan import Plan
from mxcensus.progress import Display
from scanner.pace import Limits
from scanner.scan import ScanSettings
from scanner.shards import Shard

DEFAULTS = Limits()
TIMEOUT = 60.0
MANNERS = (
    "concurrency", "per_address", "interval", "per_operator", "per_prefix", "rate", "timeout", "exclude",
    "mta_sts_port",
)  # fmt: skip
"""Options without a default of their own: a resumed scan keeps those that are not given as it began."""


class BadUsage(ValueError):
    """Options that do not go together; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("scan", help="resolve, probe, store, classify, and print a summary")
    parser.set_defaults(run=run)
    add_targets(parser)
    common.add_database(parser)
    common.add_trust(parser)
    add_politeness(parser)
    add_per_prefix(parser)
    add = parser.add_argument
    add("--mta-sts", action="store_true", help="also fetch the MTA-STS policies of the domains that have a record")
    add("--mta-sts-port", type=common.port, metavar="N", help="where policy hosts listen (443)")
    add("--label", metavar="TEXT", help="a name for people, stored with the scan")
    add("--seed", type=int, metavar="N", help="order of work and draw of names (default: a random one, stored)")
    add(
        "--both-key-types",
        action="store_true",
        help="a second, spaced connection to each endpoint, for a certificate of the other key type",
    )
    add("--resume", action="store_true", help="go on with the latest scan of the database that did not finish")
    add("--json", action="store_true", help="one JSON object on standard output, progress on standard error")
    add("--verbose", action="store_true", help="explain every session, line by line, on standard error")
    add_connection_log(parser)
    add_metrics(parser)


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """For whatever takes a while."""
    parser.add_argument(
        "--metrics", metavar="[HOST:]PORT", help="serve metrics for Prometheus there (host default: 127.0.0.1)"
    )


def add_connection_log(parser: argparse.ArgumentParser) -> None:
    """For whatever makes connections."""
    parser.add_argument(
        "--connection-log",
        type=Path,
        metavar="FILE",
        help="a line of JSON for every connection; rotated, owner only",
    )


def add_targets(parser: argparse.ArgumentParser, *, divided: bool = True) -> None:
    """`divided` adds what contacts only some addresses, which a fleet does not know."""
    add = parser.add_argument
    add("domains", nargs="*", metavar="DOMAIN")
    add(
        "-f", "--file", metavar="FILE", help="a domain a line, or CSV rank,domain or domain,weight; .gz; - is stdin"
    )
    add(
        "--resolver",
        action="append",
        metavar="HOST[:PORT]",
        help="a DNS resolver (repeatable; default: the system's)",
    )
    add("--exclude", action="append", type=Path, metavar="FILE", help="opt-outs: addresses, CIDR, names, mx:host")
    add("--port", type=common.port, default=25, metavar="N", help="the SMTP port (25)")
    add(
        "--names-per-address",
        type=common.positive,
        default=3,
        metavar="N",
        help="MX host names tried on one address (3)",
    )
    if divided:
        add(
            "--sample",
            type=common.positive,
            metavar="N",
            help="contact about N addresses only, and tell of all from them",
        )
        add(
            "--shard",
            metavar="I/N",
            help="contact only the addresses of shard I of N; the other shards run elsewhere with the same --seed",
        )
    add(
        "--allow-special-purpose",
        action="store_true",
        help="also contact loopback, private and other special addresses",
    )


def add_politeness(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ehlo-name", metavar="FQDN", help="the name that this scanner greets with; required above 10 domains")
    add("--contact", metavar="TEXT", help="who answers questions about this scan; required above 10 domains")
    add(
        "--concurrency",
        type=common.positive,
        metavar="N",
        help=f"sessions in flight ({DEFAULTS.concurrency:g})",
    )
    add(
        "--per-address",
        type=common.positive,
        metavar="N",
        help=f"sessions at once to an address ({DEFAULTS.per_address:g})",
    )
    add(
        "--interval",
        type=common.not_negative,
        metavar="SECONDS",
        help=f"between two connections to an address ({DEFAULTS.interval:g})",
    )
    add(
        "--per-operator",
        type=common.positive,
        metavar="N",
        help=f"sessions at once to an operator ({DEFAULTS.per_operator:g})",
    )
    add(
        "--rate",
        type=common.not_negative,
        metavar="N",
        help=f"new connections a second, all together ({DEFAULTS.rate:g})",
    )
    add(
        "--timeout",
        type=common.not_negative,
        metavar="SECONDS",
        help=f"for a reply or the greeting ({TIMEOUT:g})",
    )


def add_per_prefix(parser: argparse.ArgumentParser) -> None:
    """For what paces its sessions in one process: a fleet does not know prefixes."""
    parser.add_argument(
        "--per-prefix",
        type=common.positive,
        metavar="N",
        help="sessions at once to a network prefix, /24 or /48 (default: no bound)",
    )


def run(arguments: argparse.Namespace) -> int:
    plan = make_plan(arguments)
    targets = inputs.Targets(arguments.domains, arguments.file, plan.exclusions)
    display = Display(plain=arguments.json or arguments.verbose or not sys.stderr.isatty())
    outcome = scanning.run(plan, targets, display)
    if arguments.json:
        print(json.dumps(outcome.as_dict()))
    else:
        scanning.print_summary(plan.database, outcome)
    return outcome.exit_status


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Options and settings together; raises a ValueError or OSError of one line for what cannot be used."""
    if arguments.rate == 0 or arguments.timeout == 0:
        raise BadUsage("--rate and --timeout must be more than 0")
    shard = Shard.parse(arguments.shard) if getattr(arguments, "shard", None) else None  # not an option of `doctor`
    if shard is not None and arguments.seed is None and not arguments.resume:
        raise BadUsage("--shard needs --seed N, the same for every shard: it draws the names of each address")
    if shard is not None and getattr(arguments, "sample", None):
        raise BadUsage("--sample and --shard do not go together: a sample is drawn over all addresses")
    if getattr(arguments, "sample", None) and getattr(arguments, "mta_sts", False):
        raise BadUsage("--sample and --mta-sts do not go together: policies are fetched of all domains")
    configured = settings.load(settings.folder())
    exclude_files = [*(arguments.exclude or []), *([configured.exclude_file] if configured.exclude_file else [])]
    exclusions = inputs.read_exclusions(exclude_files)
    return Plan(
        database=common.database_url(arguments),
        trust=common.trust(arguments),
        label=arguments.label,
        resolvers=inputs.resolvers(arguments.resolver or configured.resolver),
        exclusions=exclusions,
        ehlo_name=inputs.ehlo_name(arguments.ehlo_name or configured.ehlo_name),
        contact=arguments.contact or configured.contact,
        allow_special_purpose=arguments.allow_special_purpose,
        timeout=TIMEOUT if arguments.timeout is None else arguments.timeout,
        resume=arguments.resume,
        verbose=arguments.verbose,
        mta_sts=getattr(arguments, "mta_sts", False),
        mta_sts_port=getattr(arguments, "mta_sts_port", None) or 443,
        connection_log=getattr(arguments, "connection_log", None),  # not an option of `plan`
        metrics=inputs.listening_address(getattr(arguments, "metrics", None), "--metrics"),
        scan=ScanSettings(
            seed=arguments.seed if arguments.seed is not None else secrets.randbelow(2**31),
            port=arguments.port,
            names_per_address=arguments.names_per_address,
            limits=_shared(limits(arguments), shard),
            shard=shard,
            sample=getattr(arguments, "sample", None),  # of `scan` and `plan`
        ),
        exclude_files=exclude_files,
        both_key_types=getattr(arguments, "both_key_types", False),
        given=frozenset(name for name in MANNERS if getattr(arguments, name, None) is not None),
    )


def limits(arguments: argparse.Namespace) -> Limits:
    """The default limits, with those that the command line named in their place."""
    named = {name: getattr(arguments, name) for name in asdict(DEFAULTS) if hasattr(arguments, name)}
    return replace(DEFAULTS, **{name: value for name, value in named.items() if value is not None})


def _shared(of: Limits, shard: Shard | None) -> Limits:
    """Addresses belong to one shard, operators and prefixes to all: each shard keeps its part of their bounds."""
    if shard is None:
        return of
    per_prefix = None if of.per_prefix is None else shard.share(of.per_prefix)
    return replace(of, per_operator=shard.share(of.per_operator), per_prefix=per_prefix)
