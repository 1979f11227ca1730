"""Trust snapshots of this user: which one is in use, and how a new one is made and put there.

Snapshots that `trust update` makes are folders in `trust/` in the configuration folder, named by their ids, which
begin with the time. The last by name is in use; without any it is the one that comes with the program. A new one is
written under another name and renamed once it has been read back, so a snapshot is there whole or not at all, and
older ones stay.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mxcensus import __version__, settings
from mxcensus.download import Downloads
from scanner import ccadb, chrome_store, snapshot
from scanner.records import Hierarchy, Program
from scanner.snapshot import Difference
from scanner.trust import Purpose, TrustSnapshot, bundled, load

CCADB = "https://ccadb.my.salesforce-sites.com/ccadb/"
CHROMIUM = (
    "https://raw.githubusercontent.com/chromium/chromium/main/net/data/ssl/chrome_root_store/root_store.textproto"
)
FIRST_YEAR = 1994
"""No certificate of CCADB is older."""

LICENCE = "CCADB reports: CDLA-Permissive-2.0; Chrome Root Store: Chromium's BSD licence"


class BadUpdate(ValueError):
    """A snapshot that cannot be made or put where it should go; the message is one line."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the reports are: URLs or files. `{year}` in one of `pems` stands for each year."""

    included: str = CCADB + ccadb.INCLUDED
    records: str = CCADB + ccadb.RECORDS
    pems: Sequence[str] = (CCADB + ccadb.PEMS,)
    chrome: str = CHROMIUM


@dataclass(frozen=True, slots=True)
class Updated:
    """A new snapshot, where it is, and how it differs from the one that was in use."""

    snapshot: TrustSnapshot
    directory: Path
    before: TrustSnapshot
    difference: Difference


def folder() -> Path:
    """Where this user's own snapshots are."""
    return settings.folder() / "trust"


def own() -> Path | None:
    """The user's own snapshot that is in use: the last by name; None where there is none."""
    try:
        found = [path for path in folder().iterdir() if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return None
    return max(found, default=None, key=lambda path: path.name)


def in_use(directory: Path | None = None) -> TrustSnapshot:
    """The snapshot in `directory`, else the user's own, else the one that comes with the program."""
    chosen = directory or own()
    return load(chosen) if chosen else bundled()


def update(
    sources: Sources,
    before: TrustSnapshot,
    now: datetime,
    directory: Path | None = None,
    *,
    allow_shrink: bool = False,
) -> Updated:
    """Build a snapshot from the sources and put it into `directory`, by default among the user's own.

    Raises `BadUpdate`, `BadReport`, `BadRootStore`, `BadDownload` or `BadSnapshot`, and then has changed nothing.
    """
    name = f"ccadb-{now:%Y-%m-%dT%H%M%SZ}"
    target = directory or folder() / name
    if target.exists():
        raise BadUpdate(f"{target} is there already: name a directory that is not")
    found = _build(sources, before, now)
    if not allow_shrink and (why := snapshot.shrunk(before, found)) is not None:
        raise BadUpdate(f"{why}: a truncated report? Use --allow-shrink if it is meant")
    complete = replace(found, id=name, sources=_sources(sources, found, now))
    _put(snapshot.files(complete), target)
    return Updated(complete, target, before, snapshot.difference(before, complete))


def _build(sources: Sources, before: TrustSnapshot, now: datetime) -> TrustSnapshot:
    with Downloads(f"mxcensus/{__version__}") as downloads:
        store = chrome_store.read(downloads.text(sources.chrome), sources.chrome)
        included = list(ccadb.read_included(downloads.text(sources.included), sources.included))
        records = list(ccadb.read_records(downloads.text(sources.records), sources.records))
        ders: dict[str, bytes] = {}
        for where in _each_year(sources.pems, now.year):
            ders |= ccadb.read_pems(downloads.text(where), where)
    if not included:
        raise BadUpdate(f"{sources.included}: no root in it; a truncated file?")
    return snapshot.build(included, records, ders, store, before, now.date())


def _each_year(pems: Sequence[str], last: int) -> Iterator[str]:
    for where in pems:
        if "{year}" in where:
            yield from (where.replace("{year}", str(year)) for year in range(FIRST_YEAR, last + 1))
        else:
            yield where


def _sources(sources: Sources, found: TrustSnapshot, now: datetime) -> Mapping[str, str]:
    read = f"read {now:%Y-%m-%d}"
    lines = {program.value: f"{sources.included}, {read}" for program in Program if program is not Program.CHROME}
    limits = sum(root.chrome_sct_not_after is not None for root in found.roots.values())
    lines[Program.CHROME.value] = f"{sources.chrome}, {read}; {limits} roots with SCTNotAfter"
    return {**lines, "licence": LICENCE}


def _put(files: Mapping[str, str], target: Path) -> None:
    """Write a snapshot's files and read them back; the directory appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        for name, text in files.items():
            with (part / name).open("w", encoding="utf-8", newline="") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
        load(part)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


# --------------------------------------------------------------------------------------------------- showing


def counts(of: TrustSnapshot) -> dict[str, dict[str, int]]:
    """Roots by program and purpose; a root counts in each of its purposes, and once under `roots`."""
    found = {}
    for program in Program:
        roots = [root.purposes[program] for root in of.roots.values() if root.purposes[program]]
        purposes = {purpose.value: sum(purpose in each for each in roots) for purpose in Purpose}
        found[program.value] = {"roots": len(roots), **purposes}
    return found


def document(of: TrustSnapshot, where: str) -> dict[str, object]:
    """What `trust show --json` prints."""
    return {
        "id": of.id,
        "as_of": of.as_of.isoformat(),
        "where": where,
        "roots": len(of.roots),
        "without_program": sum(not root.trusted for root in of.roots.values()),
        "only_unknown": sum(
            frozenset().union(*root.purposes.values()) == {Purpose.UNKNOWN} for root in of.roots.values()
        ),
        "intermediates": len(of.intermediates) - len(of.chrome_anchors),
        "chrome_anchors": len(of.chrome_anchors),
        "chrome_sct_not_after": _by_day(of),
        "programs": counts(of),
        "not_measurable": sorted(set(Hierarchy) - of.measurable),
        "sources": dict(of.sources),
    }


def _by_day(of: TrustSnapshot) -> dict[str, int]:
    """Roots whose new certificates Chrome stops to trust, by the day of the last SCT."""
    days = [root.chrome_sct_not_after for root in of.roots.values() if root.chrome_sct_not_after]
    return {day: sum(f"{each:%Y-%m-%d}" == day for each in days) for day in sorted({f"{d:%Y-%m-%d}" for d in days})}


def lines(of: TrustSnapshot, where: str) -> Iterator[str]:
    """What `trust show` prints."""
    said = document(of, where)
    yield f"snapshot {of.id}, as of {of.as_of}: {where}"
    yield (
        f"{said['roots']} roots: {said['only_unknown']} of unknown purpose only, {said['without_program']} in no "
        f"program; {said['intermediates']} intermediates, {said['chrome_anchors']} anchors of Chrome"
    )
    yield ""
    names = ["roots", *Purpose]
    yield f"{'program':10}" + "".join(f"{name:>9}" for name in names)
    for program, found in counts(of).items():
        yield f"{program:10}" + "".join(f"{found[name]:9}" for name in names)
    yield ""
    days = _by_day(of)
    if days:
        yield f"chrome SCTNotAfter: {', '.join(f'{day} {count}' for day, count in days.items())}"
    for name, text in of.sources.items():
        yield f"{name}: {text}"
    hidden = sorted(set(Hierarchy) - of.measurable)
    if hidden:
        yield f"hierarchies that it cannot show: {', '.join(hidden)}"
