"""A report as one self-contained page: answers first, then charts with the table behind each.

No script, no remote asset; light and dark, print and phone. Every text goes through Jinja's escaping and
`reports.text`; only our own charts are passed as markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from reports import charts
from reports.definitions import DEFINITIONS, QUESTION_COVERAGE, UNIT_NOTES, UNIT_TITLES, Definition
from reports.figures import Figure, Key, Report, Row
from reports.headlines import headlines
from reports.text import html_text, number, percent, show


@dataclass(frozen=True, slots=True)
class TableRow:
    """One key with a cell a unit."""

    key: Key
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One figure in all its units, ready to be laid out."""

    definition: Definition
    figures: Sequence[Figure]
    chart: str
    notes: tuple[str, ...]

    @property
    def units(self) -> list[str]:
        return [UNIT_TITLES[figure.unit] for figure in self.figures]

    @property
    def rows(self) -> list[TableRow]:
        columns = [{row.key: row for row in figure.rows} for figure in self.figures]
        keys = dict.fromkeys(key for column in columns for key in column)
        ordered = sorted(keys, key=lambda key: key[0] == "mixed")
        return [TableRow(key, tuple(_cell(column.get(key)) for column in columns)) for key in ordered]


def render(report: Report) -> str:
    """The page. Raises `NoCharts` where the extra is not installed."""
    drawn = {figure.id: figure for figure in charts.drawn(report)}
    questions: dict[str, list[Section]] = {}
    for definition in DEFINITIONS:
        figures = [figure for figure in report.figures if figure.definition is definition]
        if figures:
            chart = _chart(drawn[definition.id]) if definition.id in drawn else ""
            section = Section(definition, figures, chart, tuple(_notes(figures)))
            questions.setdefault(definition.question, []).append(section)
    page: str = _template().render(
        scan=report.scan,
        trust=report.trust,
        headlines=headlines(report),
        # Coverage is what one looks up, not what one came for: last.
        questions=sorted(questions.items(), key=lambda item: item[0] == QUESTION_COVERAGE),
        titles=UNIT_TITLES,
        notes=[(unit, UNIT_NOTES[unit]) for unit in dict.fromkeys(figure.unit for figure in report.figures)],
    )
    return page


def _template() -> Any:
    try:
        import jinja2  # noqa: PLC0415  # part of the extra
    except ImportError:
        raise charts.NoCharts("the page needs the extra `charts`: pip install 'mxcensus[charts]'") from None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(
        shown=show, long=lambda text: show(text, 1000), number=number, time=_minute, prose=_without_ticks
    )
    source = (resources.files("reports") / "data" / "report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _without_ticks(text: str) -> str:
    """Our own Markdown's code marks mean nothing on a page."""
    return text.replace("`", "")


def _chart(figure: Figure) -> str:
    """The SVG with a title and a description, so that it can be read without being seen."""
    rows = sorted(figure.rows, key=lambda row: -row.count)[: charts.MOST_BARS]
    said = "; ".join(f"{', '.join(row.key)}: {number(row.count)} ({percent(row.share)})" for row in rows)
    title = f"{figure.definition.title}, {UNIT_TITLES[figure.unit]}"
    label = f"<title>{html_text(title)}</title><desc>{html_text(said, 1000)}</desc>"
    start, _, rest = charts.svg(figure).partition(">")
    return f'{start} role="img">{label}{rest}'


def _notes(figures: Sequence[Figure]) -> list[str]:
    notes = [
        f"Private {UNIT_TITLES[figure.unit]}: {number(share.low.count)} ({percent(share.low.share)}) to "
        f"{number(share.high.count)} ({percent(share.high.share)})."
        for figure in figures
        if (share := figure.private_share) is not None
    ]
    if figures[0].not_measurable:
        notes.append(f"Not measurable with this snapshot: {', '.join(figures[0].not_measurable)}.")
    return notes


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    shown = f"{number(row.count)} ({percent(row.share)})"
    return shown if row.any == row.count else f"{shown} any {number(row.any)}"
