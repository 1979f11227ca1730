"""From a stored scan to a release on disk: count, judge, audit, write; or refuse and write nothing."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from mxcensus import __version__, releases
from reports import figures
from reports.disclosure import render, vocabulary
from reports.disclosure.cells import cells
from reports.disclosure.differences import protect
from reports.disclosure.relations import links
from reports.disclosure.release import Method, Release, document, release, source_of
from reports.disclosure.rules import RefusedError, Rules
from scanner import software
from scanner.trust import TrustSnapshot
from storage import contributions, counts, sampled
from storage.database import Database

MANIFEST = "manifest.json"
SCHEMA = "release.schema.json"


class BadOutputError(ValueError):
    """A directory that a release cannot be written to; one line for the user."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the publisher chose."""

    rules: Rules
    round_to: int
    population: str
    previous: tuple[Path, ...]
    trust: TrustSnapshot


def build(database: Database, scan: int | None, options: Options) -> Release:
    """A release of a scan, by default of the latest. Raises `RefusedError` where the audit does not agree."""
    info = database.scan_info(scan)
    owners = frozenset(root.owner for root in options.trust.roots.values() if root.owner)
    words = vocabulary.vocabulary(frozenset(entry.name for entry in software.table()), owners)
    earlier = [releases.read(path) for path in options.previous]
    with database.reading() as connection:
        if sampled.stored_sample(connection, info.scan) is not None:
            raise RefusedError("refused: a sample gives estimates, and only counts can be judged")
        report = figures.build(vocabulary.recode_counts(counts.read(connection, info.scan), words), info)
        with contributions.reading(connection, info.scan) as source:
            profiles = vocabulary.recode_profiles(source.profiles, words)
            found = cells(report, source, profiles)
    about = source_of(report, __version__, options.population)
    passed = protect(found, options.rules, links(profiles), about, earlier, options.round_to)
    method = Method(options.rules, options.round_to, tuple(one.sha256 for one in earlier))
    return release(found, passed, about, method)


def write(published: Release, directory: Path) -> Sequence[str]:
    """Write the files, all or none, and return their names. An earlier release there is replaced."""
    if directory.exists() and not _ours(directory):
        raise BadOutputError(f"{directory}: holds something else than a release")
    files = _files(published)
    directory.parent.mkdir(parents=True, exist_ok=True)
    part = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.part")
    part.mkdir(mode=0o755)
    try:
        for name, text in files.items():
            _write(part / name, text)
        _replace(part, directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return tuple(files)


def _files(published: Release) -> Mapping[str, str]:
    files = {
        "release.json": render.as_json(published),
        "release.csv": render.as_csv(published),
        "release.md": render.as_markdown(published),
        SCHEMA: (resources.files("reports") / "data" / SCHEMA).read_text(encoding="utf-8"),
    }
    values = document(published)
    rules = published.method.rules
    manifest = {
        "tool": values["tool"],
        "source": values["source"],
        "method": {
            **asdict(rules),
            "round_to": published.method.round_to,
            "previous": list(published.method.previous),
            "text": (
                "threshold, dominance and p% rules by operator against coalitions of two; complementary "
                "suppression over all figures; audited by integer programming (HiGHS)"
            ),
        },
        "files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()},
    }
    return {**files, MANIFEST: json.dumps(manifest, indent=1) + "\n"}


def _write(path: Path, text: str) -> None:
    """A file that others may read and nobody else may write."""
    with path.open("x", encoding="utf-8", newline="") as out:
        os.fchmod(out.fileno(), 0o644)
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _ours(directory: Path) -> bool:
    if not directory.is_dir() or directory.is_symlink():
        return False
    names = {path.name for path in directory.iterdir()}
    return not names or (
        MANIFEST in names and names <= {"release.json", "release.csv", "release.md", SCHEMA, MANIFEST}
    )


def _replace(part: Path, directory: Path) -> None:
    if not directory.exists():
        part.rename(directory)
        return
    old = part.with_suffix(".old")
    directory.rename(old)
    part.rename(directory)
    shutil.rmtree(old)
