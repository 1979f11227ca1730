"""`mxcensus plan`: what a scan with the same inputs would do. DNS only; nothing is stored, nobody is contacted."""

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from mxcensus import inputs, survey
from mxcensus.commands import scan
from mxcensus.survey import Survey


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("plan", help="what a scan would do, by DNS only: connections, operators, time")
    parser.set_defaults(run=run, db=None, trust=None, label=None, resume=False, verbose=False)
    scan.add_targets(parser)
    scan.add_politeness(parser)
    scan.add_per_prefix(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="the draw of names that the scan will use")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    plan = scan.make_plan(arguments)
    found = survey.run(plan, inputs.Targets(arguments.domains, arguments.file, plan.exclusions))
    if arguments.json:
        print(json.dumps(found.as_dict()))
    else:
        print("\n".join(_lines(found)))
    return 0 if set(found.routing) != {"error"} else 1


def _lines(found: Survey) -> Iterator[str]:
    yield f"domains      {found.domains}  ({_counts(found.routing)})"
    yield f"MX hosts     {found.mx_hosts}"
    yield f"addresses    {found.addresses}"
    yield f"endpoints    {found.endpoints}"
    left_out = f"  (not tested: {_counts(found.not_tested)})" if found.not_tested else ""
    yield f"connections  {found.connections}{left_out}"
    yield f"operators    {found.operators}, the largest:"
    for load in found.largest:
        yield (
            f"  {load.operator}: {load.connections} connections, {load.mx_hosts} MX hosts,"
            f" {load.addresses} addresses, {_time(load.seconds)}"
        )
    yield f"about {_time(found.seconds)} at this rate; what decides is --{found.bound_by}, retries not counted"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
