"""Keeps figures and drops rows: which scans and experiments are over, their reports as files, then their removal.

A report is on the disk before the first row goes, so whatever stops this, it can be done again.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mxcensus import reporting
from mxcensus.fleet import forgetting
from reports import as_json, rows
from scanner.records import ScanInfo
from storage import experiments, retention
from storage.database import Database

FINISHED = "finished"
QUIET = timedelta(days=1)
"""A scan that is not finished and did something within this time may be running."""


class CannotRemove(ValueError):
    """Something that would be lost, or is not over; the message is one line."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What went: `scans` and `experiments` by number, rows by table, and the reports that were kept.

    Certificates that no scan refers to any more stay while the scans `running` may be at work.
    """

    scans: tuple[int, ...]
    experiments: tuple[int, ...]
    deleted: Mapping[str, int]
    reports: tuple[Path, ...]
    running: tuple[int, ...]


def ended(database: Database, numbers: list[int], now: datetime) -> list[int]:
    """These scans, all known and none of them running. Raises `BadDatabase`, `CannotRemove`."""
    chosen = list(dict.fromkeys(numbers))
    for info in map(database.scan_info, chosen):
        if _may_run(database, info, now):
            raise CannotRemove(f"scan {info.scan} is {info.state}, and was at work within the last day")
    return chosen


def old_scans(database: Database, before: datetime) -> list[int]:
    """Scans that have done nothing since, the oldest first."""
    return [info.scan for info in database.scans() if retention.last_activity(database, info.scan) < before]


def remove(database: Database, scans: list[int], trials: list[int], folder: Path | None, now: datetime) -> Removed:
    """Remove scans and experiments, with a report of each in `folder` if one is given."""
    kept = [_keep(folder, *_report(database, number)) for number in scans] if folder else []
    kept += [_keep(folder, *_experiment(database, number)) for number in trials] if folder else []
    deleted: Counter[str] = Counter()
    for number in scans:
        deleted.update(retention.remove_scan(database, number))
        deleted.update(forgetting.forget_scan(database, number))
    for number in trials:
        deleted.update(retention.remove_experiment(database, number))
    running = tuple(info.scan for info in database.scans() if _may_run(database, info, now))
    if not running:
        deleted.update(retention.remove_unused_facts(database))
    return Removed(tuple(scans), tuple(trials), deleted, tuple(kept), running)


def _may_run(database: Database, info: ScanInfo, now: datetime) -> bool:
    return info.state != FINISHED and now - retention.last_activity(database, info.scan) < QUIET


def _report(database: Database, number: int) -> tuple[str, str]:
    return f"scan-{number}.json", as_json.render(reporting.build(database, number))


def _experiment(database: Database, number: int) -> tuple[str, str]:
    told = {
        name: value
        for name, value in experiments.manifest(database, number).items()
        if name in {"id", "started_at", "finished_at", "tool_version", "approval", "variants"}
    }
    document = {"experiment": told, "outcomes": retention.outcomes(database, number)}
    return f"experiment-{number}.json", json.dumps(document, indent=1) + "\n"


def _keep(folder: Path, name: str, report: str) -> Path:
    """Write a report; one that is there already stays if it says the same, and else nothing is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if path.exists():
        if path.read_text(encoding="utf-8", errors="replace") != report:
            raise CannotRemove(f"{path} is there and differs: nothing was removed; name another folder")
        return path
    with rows.output(path) as out:
        out.write(report)
    return path
