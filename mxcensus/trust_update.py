"""Makes a trust snapshot of this user from CCADB's reports and Chromium's root store.

It is written under another name and renamed once it has been read back, so a snapshot is there whole or not at
all, and older ones stay.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mxcensus import __version__, snapshots
from mxcensus.download import Downloads
from scanner import ccadb, chrome_store, snapshot
from scanner.records import Program
from scanner.snapshot import Difference
from scanner.trust import TrustSnapshot, load

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
    target = directory or snapshots.folder() / name
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
