"""Trust snapshots of this user: which one is in use, and what it holds.

Snapshots that `trust update` makes are folders in `trust/` in the configuration folder, named by their ids, which
have the time. The last by name is in use; without any it is the one that comes with the program.
"""

from collections.abc import Iterator
from pathlib import Path

from mxcensus import settings
from scanner.records import Hierarchy, Program
from scanner.trust import Purpose, TrustSnapshot, bundled, load


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
