"""A release as a record: what passed, what is hidden, and how it was made. Nothing in it names anybody.

A hidden number is None. Rows without anybody in them are not listed. Shares are computed from the numbers shown.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from reports.as_json import TOOL, time_text
from reports.definitions import MIXED, Definition, Unit
from reports.disclosure.cells import ATTEMPTED, COVERAGE, KINDS, Cell, Cells, Passed
from reports.disclosure.rules import RULES_VERSION, Rules
from reports.figures import Figure, Key, Report
from scanner.records import Hierarchy

FORMAT_VERSION = 1
KIND = "mxcensus release"
SERVER = "server"
TOO_FEW = "too few operators are behind it, or one is behind most of it"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the numbers come from: what has to agree before releases can be put together."""

    tool_version: str
    rules_version: str
    disclosure_version: str
    role: str
    started_at: str
    finished_at: str | None
    trust_id: str | None
    trust_as_of: str | None
    population: str


@dataclass(frozen=True, slots=True)
class Method:
    """The parameters of disclosure control; `round_to` is 1 where nothing is rounded."""

    rules: Rules
    round_to: int = 1
    previous: tuple[str, ...] = ()  # sha256 of the releases that this one was checked against


@dataclass(frozen=True, slots=True)
class ReleasedRow:
    """One row; a hidden one has neither count nor share."""

    key: Key
    count: int | None
    share: float | None


@dataclass(frozen=True, slots=True)
class ReleasedFigure:
    """One figure in one unit; `kind` is what its coverage counts: measured, tested, routed."""

    definition: Definition
    unit: Unit
    kind: str
    attempted: int | None
    measured: int | None
    not_measured: Mapping[str, int | None]
    rows: tuple[ReleasedRow, ...]
    not_measurable: tuple[str, ...] = ()  # keys that the trust snapshot cannot show: not listed, and not zero


@dataclass(frozen=True, slots=True)
class Release:
    """What may leave the house."""

    source: Source
    method: Method
    figures: tuple[ReleasedFigure, ...]
    withheld: tuple[tuple[str, Unit, str], ...]

    def figure(self, name: str, unit: Unit) -> ReleasedFigure | None:
        """The figure of that id and unit."""
        return next((f for f in self.figures if f.definition.id == name and f.unit is unit), None)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A release that is out, and the sha256 of its file."""

    release: Release
    sha256: str


def source_of(report: Report, version: str, population: str) -> Source:
    """What a release says of its scan."""
    scan = report.scan
    return Source(
        tool_version=version,
        rules_version=scan.rules_version,
        disclosure_version=RULES_VERSION,
        role=SERVER,
        started_at=time_text(_whole_second(scan.started_at)),
        finished_at=None if scan.finished_at is None else time_text(_whole_second(scan.finished_at)),
        trust_id=report.trust.id,
        trust_as_of=report.trust.as_of,
        population=population,
    )


def release(cells: Cells, passed: Passed, source: Source, method: Method) -> Release:
    """Put together what passed."""
    withheld = dict(cells.withheld)
    kept: list[ReleasedFigure] = []
    for figure in cells.figures:
        if figure.unit in passed.dropped:
            withheld[figure.id, figure.unit] = TOO_FEW
        else:
            kept.append(_figure(figure, cells, passed, method.round_to))
    return Release(source, method, tuple(kept), tuple((name, unit, why) for (name, unit), why in withheld.items()))


def _figure(figure: Figure, cells: Cells, passed: Passed, base: int) -> ReleasedFigure:
    kind = KINDS[figure.definition.source]

    def shown(cell: Cell) -> int | None:
        if cell not in passed.listed:
            return 0
        return rounded(cells.values[cell], base) if cell in passed.shown else None

    measured = shown(Cell(figure.unit, COVERAGE, (kind,)))
    rows = []
    for row in figure.rows:
        cell = Cell(figure.unit, figure.id, row.key)
        if cell in passed.listed:
            count = shown(cell)
            rows.append(ReleasedRow(row.key, count, share(count, measured)))
    order = {name: place for place, name in enumerate(figure.definition.order)}
    # Not by true size, which would say something of the hidden ones.
    rows.sort(key=lambda row: (row.key[0] == MIXED, order.get(row.key[0], len(order)), -(row.count or 0), row.key))
    reasons = {
        reason: shown(Cell(figure.unit, COVERAGE, (f"not {kind}", reason)))
        for reason in figure.coverage.not_measured
    }
    attempted = shown(Cell(figure.unit, COVERAGE, ATTEMPTED))
    unseen = tuple(str(name) for name in Hierarchy if name in figure.not_measurable)
    return ReleasedFigure(figure.definition, figure.unit, kind, attempted, measured, reasons, tuple(rows), unseen)


def rounded(value: int, base: int) -> int:
    """The nearest multiple of `base`, halves upwards."""
    return (value + base // 2) // base * base if base > 1 else value


def share(count: int | None, measured: int | None) -> float | None:
    """The part of what was measured, None where either is hidden or nothing was measured."""
    return count / measured if count is not None and measured else None


def document(release: Release) -> dict[str, object]:
    """The release as JSON values, in the form of `reports/data/release.schema.json`."""
    source, method = asdict(release.source), release.method
    trust = {"id": source.pop("trust_id"), "as_of": source.pop("trust_as_of")}
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "tool": {"name": TOOL, "version": source.pop("tool_version")},
        "source": source | {"trust": trust},
        "method": asdict(method.rules) | {"round_to": method.round_to, "previous": list(method.previous)},
        "figures": [_figure_document(figure) for figure in release.figures],
        "withheld": [{"id": name, "unit": str(unit), "reason": why} for name, unit, why in release.withheld],
    }


def _figure_document(figure: ReleasedFigure) -> dict[str, object]:
    definition = figure.definition
    return {
        "id": definition.id,
        "title": definition.title,
        "unit": str(figure.unit),
        "keys": list(definition.keys),
        "question": definition.question,
        "numerator": definition.numerator,
        "denominator": definition.denominator,
        "caveat": definition.caveat,
        "coverage": {
            "kind": figure.kind,
            "attempted": figure.attempted,
            "measured": figure.measured,
            "not_measured": dict(figure.not_measured),
        },
        "not_measurable": list(figure.not_measurable),
        "rows": [
            {"key": dict(zip(definition.keys, row.key, strict=True)), "count": row.count, "share": row.share}
            for row in figure.rows
        ],
    }


def _whole_second(time: datetime) -> datetime:
    return time.replace(microsecond=0)
