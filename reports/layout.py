"""What the report page and the dashboard's pages have in common: figures ready to be laid out, and the templates.

Every text goes through Jinja's escaping and `reports.text`; only our own charts are passed as markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from reports import charts
from reports.definitions import MIXED, QUESTION_NEED, UNIT_TITLES, Definition
from reports.figures import Figure, Key, Report, Row
from reports.roles import Wording
from reports.text import counted, html_text, number, rule_line, sample_line, show
from scanner.records import Role


@dataclass(frozen=True, slots=True)
class TableRow:
    """One key with a cell a unit."""

    key: Key
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One figure in all its units, ready to be laid out; `chart` is SVG, "" where there is none."""

    definition: Definition
    figures: Sequence[Figure]
    chart: str
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What links to it say."""
        return self.figures[0].name

    @property
    def words(self) -> Wording:
        """Title, numerator, denominator and caveat."""
        return self.figures[0].wording

    @property
    def question(self) -> str:
        """The question that it helps to answer."""
        return question_of(self.figures[0])

    @property
    def units(self) -> list[str]:
        """What the columns of the table count."""
        return [UNIT_TITLES[figure.unit] for figure in self.figures]

    @property
    def rows(self) -> list[TableRow]:
        """A line a key, the mixed one last."""
        columns = [{row.key: row for row in figure.rows} for figure in self.figures]
        keys = dict.fromkeys(key for column in columns for key in column)
        ordered = sorted(keys, key=lambda key: key[0] == MIXED)
        return [TableRow(key, tuple(cell(column.get(key)) for column in columns)) for key in ordered]


def sections(report: Report) -> list[Section]:
    """Every figure of the report, servers first, in the order of the definitions. Raises `NoCharts`."""
    drawn = {figure.name: figure for figure in charts.drawn(report)}
    return [section(figures, drawn.get(figures[0].name)) for figures in report.sections()]


def section(figures: Sequence[Figure], drawn: Figure | None) -> Section:
    """One figure; `drawn` is the unit of it that has a chart."""
    return Section(figures[0].definition, figures, chart(drawn) if drawn else "", tuple(_notes(figures)))


def chart(figure: Figure) -> str:
    """The SVG with a title and a description, so that it can be read without being seen."""
    rows = sorted(figure.rows, key=lambda row: -row.count)[: charts.MOST_BARS]
    said = "; ".join(f"{', '.join(row.key)}: {cell(row)}" for row in rows)
    title = f"{figure.wording.title}, {UNIT_TITLES[figure.unit]}"
    label = f"<title>{html_text(title)}</title><desc>{html_text(said, 1000)}</desc>"
    start, _, rest = charts.svg(figure).partition(">")
    return f'{start} role="img">{label}{rest}'


def question_of(figure: Figure) -> str:
    """The working group's question; of clients there is one only."""
    return QUESTION_NEED if figure.role is Role.CLIENT else figure.definition.question


def cell(row: Row | None) -> str:
    """A row for people: `count (share)`, with `any n` where more units have at least one endpoint of it."""
    if row is None:
        return ""
    shown = counted(row.count, row.share)
    return shown if row.any == row.count else f"{shown} any {number(row.any)}"


@cache
def environment() -> Any:
    """The templates of `reports/data`. Raises `NoCharts` where the extra is not installed."""
    try:
        import jinja2  # noqa: PLC0415  # part of the extra
    except ImportError:
        raise charts.NoCharts("pages need the extra `charts`: pip install 'mxcensus[charts]'") from None
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "data"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        shown=show,
        sample_line=sample_line,
        long=lambda text: show(text, 1000),
        number=number,
        time=minute,
        prose=_without_ticks,
    )
    return made


def minute(time: datetime) -> str:
    """A time for people."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _without_ticks(text: str) -> str:
    """Our own Markdown's code marks mean nothing on a page."""
    return text.replace("`", "")


def _notes(figures: Sequence[Figure]) -> list[str]:
    ranges = [
        f"{UNIT_TITLES[figure.unit]} {counted(share.low.count, share.low.share)} to "
        f"{counted(share.high.count, share.high.share)}"
        for figure in figures
        if (share := figure.private_share) is not None
    ]
    notes = [f"Private, as a range: {'; '.join(ranges)}."] if ranges else []
    notes += (f"{rule_line(rule)}." for rule in sorted(figures[0].rules, key=lambda rule: rule.date))
    if figures[0].not_measurable:
        notes.append(f"Not measurable with this snapshot: {', '.join(figures[0].not_measurable)}.")
    return notes
