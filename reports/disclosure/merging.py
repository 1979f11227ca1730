"""Several publishers' releases together: bounds, since nobody knows what they have in common.

Certificates, hosts, domains and operators of several publishers overlap, so a number of all of them lies between
the largest and the sum, and is the sum where the publishers say that they have none of a unit in common. Weights
(messages, say) of the same days add up. A hidden cell may be anything that its own release leaves open. Releases
that count different things are refused.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from reports.as_json import TOOL
from reports.as_markdown import table
from reports.definitions import Definition, Unit
from reports.disclosure.reading import BadReleaseError
from reports.disclosure.release import Release, ReleasedFigure
from reports.disclosure.rules import RefusedError
from reports.figures import Key
from reports.text import markdown, number

ADDITIVE = frozenset({Unit.WEIGHT})


@dataclass(frozen=True, slots=True)
class Bounds:
    """At least `low`, and at most `high`; None where nothing bounds it."""

    low: int
    high: int | None


NOTHING = Bounds(0, 0)


@dataclass(frozen=True, slots=True)
class MergedFigure:
    """One figure in one unit over all releases; `releases` is in how many of them it is."""

    definition: Definition
    unit: Unit
    releases: int
    summed: bool
    measured: Bounds
    rows: tuple[tuple[Key, Bounds], ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """All figures that any of the releases has."""

    releases: tuple[Release, ...]
    figures: tuple[MergedFigure, ...]


def merge(releases: Sequence[Release], disjoint: Collection[Unit] = (), days: int = 0) -> Merged:
    """Put releases together; their windows may differ by `days`. Raises `RefusedError` with the reason."""
    if len(releases) < 2:
        raise BadReleaseError("merge needs at least two releases")
    _comparable(releases, days)
    windows = {_days(release) for release in releases}
    summed = frozenset(disjoint) | (ADDITIVE if len(windows) == 1 else frozenset())
    figures = []
    first: dict[tuple[str, Unit], ReleasedFigure] = {}
    for release in releases:
        for figure in release.figures:
            known = first.setdefault((figure.definition.id, figure.unit), figure)
            if known.definition.keys != figure.definition.keys:
                raise RefusedError(f"refused: {figure.definition.id} has different keys in two releases")
    for (name, unit), figure in first.items():
        figures.append(
            _figure(figure, [release.figure(name, unit) for release in releases], releases, unit in summed)
        )
    return Merged(tuple(releases), tuple(figures))


def _comparable(releases: Sequence[Release], days: int) -> None:
    one = releases[0].source
    for release in releases[1:]:
        other = release.source
        for what, left, right in (
            ("roles", one.role, other.role),
            ("classification rules", one.rules_version, other.rules_version),
            ("disclosure rules", one.disclosure_version, other.disclosure_version),
            ("trust snapshots", one.trust_id, other.trust_id),
        ):
            if left != right:
                raise RefusedError(f"refused: different {what}: {left} and {right}")
        pairs = zip(_days(releases[0]), _days(release), strict=True)
        if any(abs(left - right) > timedelta(days=days) for left, right in pairs):
            windows = [f"{start} to {end}" for start, end in (_days(releases[0]), _days(release))]
            raise RefusedError(f"refused: different date windows: {windows[0]}, and {windows[1]}")
    if any(left == right for at, left in enumerate(releases) for right in releases[:at]):
        raise RefusedError("refused: a release is given twice")


def _days(release: Release) -> tuple[date, date]:
    try:
        start = datetime.fromisoformat(release.source.started_at).date()
        end = datetime.fromisoformat(release.source.finished_at or release.source.started_at).date()
    except ValueError:
        raise BadReleaseError(f"{release.source.started_at[:40]!r} is no time") from None
    return start, end


# ------------------------------------------------------------------------------------------------- one figure


def _figure(
    figure: ReleasedFigure,
    found: Sequence[ReleasedFigure | None],
    releases: Sequence[Release],
    summed: bool,
) -> MergedFigure:
    keys = dict.fromkeys(row.key for one in found if one is not None for row in one.rows)
    slack = [release.method.round_to // 2 for release in releases]
    sides = [None if one is None else _bounds(one, wide) for one, wide in zip(found, slack, strict=True)]
    rows = tuple((key, _join([_of_row(side, key) for side in sides], summed)) for key in keys)
    measured = _join(
        [
            Bounds(0, None) if one is None else _known(one.measured, wide)
            for one, wide in zip(found, slack, strict=True)
        ],
        summed,
    )
    return MergedFigure(
        figure.definition, figure.unit, sum(one is not None for one in found), summed, measured, rows
    )


def _known(count: int | None, wide: int) -> Bounds:
    return Bounds(0, None) if count is None else Bounds(max(0, count - wide), count + wide)


def _bounds(figure: ReleasedFigure, wide: int) -> dict[Key, Bounds]:
    """Each row; a hidden one may be all of what the others leave."""
    found = {row.key: _known(row.count, wide) for row in figure.rows}
    if figure.measured is not None:
        left = figure.measured + wide - sum(bounds.low for bounds in found.values())
        for row in figure.rows:
            if row.count is None:
                found[row.key] = Bounds(0, max(0, left))
    return found


def _of_row(side: dict[Key, Bounds] | None, key: Key) -> Bounds:
    return Bounds(0, None) if side is None else side.get(key, NOTHING)


def _join(bounds: Sequence[Bounds], summed: bool) -> Bounds:
    lows = [one.low for one in bounds]
    highs = [one.high for one in bounds if one.high is not None]
    return Bounds(sum(lows) if summed else max(lows), sum(highs) if len(highs) == len(bounds) else None)


# -------------------------------------------------------------------------------------------------- rendering


def as_json(merged: Merged) -> str:
    """The merged figures; `high` is null where nothing bounds a number."""
    source = merged.releases[0].source
    starts, ends = zip(*(_days(release) for release in merged.releases), strict=True)
    values = {
        "kind": "mxcensus merged releases",
        "format_version": 1,
        "tool": {"name": TOOL},
        "source": {
            "role": source.role,
            "rules_version": source.rules_version,
            "disclosure_version": source.disclosure_version,
            "from": str(min(starts)),
            "to": str(max(ends)),
            "trust": {"id": source.trust_id, "as_of": source.trust_as_of},
            "populations": [release.source.population for release in merged.releases],
        },
        "figures": [
            {
                "id": figure.definition.id,
                "unit": str(figure.unit),
                "keys": list(figure.definition.keys),
                "releases": figure.releases,
                "summed": figure.summed,
                "measured": _values(figure.measured),
                "rows": [
                    {"key": dict(zip(figure.definition.keys, key, strict=True)), **_values(bounds)}
                    for key, bounds in figure.rows
                ],
            }
            for figure in merged.figures
        ],
    }
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _values(bounds: Bounds) -> dict[str, int | None]:
    return {"low": bounds.low, "high": bounds.high}


def as_markdown(merged: Merged) -> str:
    """A table a figure and unit."""
    return "\n".join(_lines(merged)) + "\n"


def _lines(merged: Merged) -> Iterator[str]:
    yield f"# {len(merged.releases)} releases together"
    yield ""
    yield from (f"- {markdown(release.source.population)}" for release in merged.releases)
    yield ""
    yield "A number that several publishers may have in common lies between the largest and the sum of theirs."
    for figure in merged.figures:
        yield ""
        yield f"## {figure.definition.title} (`{figure.definition.id}`, {figure.unit})"
        yield ""
        body = [[*map(markdown, key), number(bounds.low), _high(bounds)] for key, bounds in figure.rows]
        blank = [""] * (len(figure.definition.keys) - 1)
        body.append(["measured", *blank, number(figure.measured.low), _high(figure.measured)])
        yield from table([*map(markdown, figure.definition.keys), "at least", "at most"], body, left=len(blank) + 1)


def _high(bounds: Bounds) -> str:
    return "unknown" if bounds.high is None else number(bounds.high)
