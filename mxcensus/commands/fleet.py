"""`mxcensus fleet`: a census by many machines over one PostgreSQL; needs the extra `fleet`."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mxcensus import inputs
from mxcensus.commands import common, scan
from storage.database import open_database


class NoFleet(ValueError):
    """The extra is missing; the message is one line."""


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    fleet = commands.add_parser("fleet", help="many machines: enqueue, worker, status, migrate")
    actions = fleet.add_subparsers(metavar="ACTION", required=True)
    _add_enqueue(actions)
    _add_worker(actions)
    for name, run, what in (
        ("status", _status, "throughput, backlog, parked addresses, time left, by worker"),
        ("migrate", _migrate, "make the tables of census and fleet, or bring them up to date"),
    ):
        parser = actions.add_parser(name, help=what)
        parser.set_defaults(run=run)
        common.add_database(parser)
        if run is _status:
            parser.add_argument("--json", action="store_true", help="one JSON object")


def _add_enqueue(actions: "argparse._SubParsersAction[Any]") -> None:
    parser = actions.add_parser("enqueue", help="enter targets as a scan of the fleet; the same again does nothing")
    parser.set_defaults(run=_enqueue, resume=False, verbose=False, shard=None, sample=None)
    scan.add_targets(parser, divided=False)
    common.add_database(parser)
    common.add_trust(parser)
    scan.add_politeness(parser)
    parser.add_argument("--label", metavar="TEXT", help="a name for people; another label makes another scan")
    parser.add_argument("--seed", type=int, metavar="N", help="order of work and draw of names (default: random)")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _add_worker(actions: "argparse._SubParsersAction[Any]") -> None:
    parser = actions.add_parser("worker", help="do jobs until told to stop")
    parser.set_defaults(
        run=_work, label=None, resume=False, verbose=False, shard=None, sample=None, seed=0, port=25,
        names_per_address=1,
        allow_special_purpose=False, ehlo_name=None, contact=None, per_address=None, interval=None,
        per_operator=None, timeout=None,
    )  # fmt: skip
    common.add_database(parser)
    common.add_trust(parser)
    add = parser.add_argument
    add("--resolver", action="append", metavar="HOST[:PORT]", help="a DNS resolver (repeatable)")
    add("--exclude", action="append", type=Path, metavar="FILE", help="opt-outs beside those enqueued")
    add("--concurrency", type=common.positive, metavar="N", help="sessions in flight of a process (500)")
    add("--rate", type=common.not_negative, metavar="N", help="new connections a second of a process (50)")
    add("--processes", type=common.positive, metavar="N", help="(default: one a core)")
    scan.add_connection_log(parser)
    scan.add_metrics(parser)
    add("--until-idle", action="store_true", help="end when every scan is done")
    add("--stalled-after", type=common.not_negative, default=90.0, metavar="SECONDS",
        help="without a sign of life a worker's jobs are another's; the same for all workers (90)")  # fmt: skip


def _enqueue(arguments: argparse.Namespace) -> int:
    module = _need("enqueue")
    plan = scan.make_plan(arguments)
    done = module.enqueue(plan, arguments.domains, arguments.file)
    if arguments.json:
        print(json.dumps({"scan": done.scan, "known": done.known, "phase": done.phase, "jobs": done.jobs}))
    elif done.known:
        print(f"scan {done.scan} is this already ({done.phase}); another --label makes another scan")
    else:
        print(f"scan {done.scan}: {done.jobs} DNS jobs")
    return 0


def _work(arguments: argparse.Namespace) -> int:
    module = _need("worker")
    count = arguments.processes or os.cpu_count() or 1
    if count > 1:
        own = [own_options(arguments, number) for number in range(count)]
        status: int = _need("processes").run_all([[*sys.argv[1:], "--processes", "1", *words] for words in own])
        return status
    stalled = arguments.stalled_after
    timing = module.Timing(
        beat=stalled / 9, fence=stalled * 2 / 3, stalled=stalled, grace=min(module.GRACE_SECONDS, stalled * 2 / 3)
    )
    ended: int = module.work(scan.make_plan(arguments), timing, until_idle=arguments.until_idle)
    return ended


def own_options(arguments: argparse.Namespace, number: int) -> list[str]:
    """What one of several processes has for itself: a log with its number, and the port that many further on."""
    log, metrics = arguments.connection_log, inputs.listening_address(arguments.metrics, "--metrics")
    words = [] if log is None else ["--connection-log", f"{log}.{number}"]
    if metrics is None:
        return words
    host, port = metrics
    return [*words, "--metrics", f"[{host}]:{port + number}"]


def _status(arguments: argparse.Namespace) -> int:
    module = _need("status")
    database = common.open_existing(arguments)
    try:
        _need("tables").check(database)
        with database.reading() as connection:
            found = module.status(connection)
    finally:
        database.close()
    if arguments.json:
        print(json.dumps(found.as_dict()))
    else:
        print("\n".join(module.lines(found)))
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    module = _need("tables")
    database = open_database(common.database_url(arguments))
    try:
        module.make(database)
    finally:
        database.close()
    return 0


def _need(name: str) -> Any:
    """A module of the fleet, which only the extra makes importable."""
    try:
        import procrastinate  # noqa: F401, PLC0415  # only to say clearly what is missing
    except ImportError:
        raise NoFleet("a fleet needs an engine: pip install 'mxcensus[fleet]'") from None
    from importlib import import_module  # noqa: PLC0415

    return import_module(f"mxcensus.fleet.{name}")
