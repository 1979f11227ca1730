"""A report as Markdown: headlines first, then every figure with its coverage and one table over all units.

A cell is `count (share)`, with `any n` where more units have at least one endpoint of the row.
"""

from collections.abc import Iterator, Sequence

from reports.as_json import time_text
from reports.definitions import MISSING, UNIT_NOTES, UNIT_TITLES, Definition
from reports.figures import Figure, Key, Report, Row
from reports.headlines import headlines
from reports.text import counted, markdown, number, rule_line, sample_line


def render(report: Report) -> str:
    """The report as GitHub Flavored Markdown with a final newline."""
    lines = [*_head(report), *_headlines(report)]
    for figures in report.sections():
        lines += _section(figures)
    lines += _notes(report)
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """A Markdown table, its first `left` columns aligned left, the others right; cells are Markdown already."""
    align = [":---"] * left + ["---:"] * (len(head) - left)
    return [_line(head), _line(align), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(report: Report) -> Iterator[str]:
    scan = report.scan
    label = f" ({markdown(scan.label)})" if scan.label else ""
    ended = "not finished" if scan.finished_at is None else time_text(scan.finished_at)
    as_of = f", as of {markdown(report.trust.as_of)}" if report.trust.as_of else ""
    yield f"# Census of mail servers: scan {scan.scan}{label}"
    yield ""
    yield f"- Scan: {markdown(scan.state)}, {time_text(scan.started_at)} to {ended}, seed {scan.seed}"
    yield f"- Tool: mxcensus {markdown(scan.tool_version)}, rules {markdown(scan.rules_version)}"
    yield f"- Trust snapshot: {markdown(report.trust.id or 'none')}{as_of}"
    if report.sample is not None:
        yield f"- {sample_line(report.sample)}"
    yield ""


def _headlines(report: Report) -> Iterator[str]:
    yield "## Answers"
    yield ""
    for headline in headlines(report):
        yield f"- **{headline.question}** {markdown(headline.sentence, 1000)} *({headline.rung})* {headline.unseen}"
    yield ""


def _section(figures: Sequence[Figure]) -> Iterator[str]:
    definition, words = figures[0].definition, figures[0].wording
    yield f"## {words.title} (`{definition.id}`)"
    yield ""
    yield f"Counted: {words.numerator}; out of: {words.denominator}. {words.caveat}"
    yield ""
    yield from _rows(definition, figures)
    yield ""
    for figure in figures:
        if figure.private_share is not None:
            low, high = figure.private_share.low, figure.private_share.high
            yield (
                f"- Private {UNIT_TITLES[figure.unit]}: {counted(low.count, low.share)} to "
                f"{counted(high.count, high.share)}"
            )
    for rule in sorted(figures[0].rules, key=lambda rule: rule.date):
        yield f"- {markdown(rule_line(rule), 500)}"
    if figures[0].not_measurable:
        yield f"- Not measurable with this snapshot: {', '.join(figures[0].not_measurable)}"
    yield ""
    yield "Coverage:"
    yield ""
    yield from table(
        ("unit", "attempted", "measured", "not measured"),
        [_coverage(figure) for figure in figures],
    )
    yield ""
    if figures[0].without_top_10 is not None:
        yield "Without the ten largest operators:"
        yield ""
        yield from _rows(definition, figures, without_top=True)
        yield ""


def _rows(definition: Definition, figures: Sequence[Figure], *, without_top: bool = False) -> list[str]:
    columns = [_row_map(figure, without_top=without_top) for figure in figures]
    keys = dict.fromkeys(key for column in columns for key in column)
    mixed_last = sorted(keys, key=lambda key: key[0] == "mixed")
    body = [
        [*(markdown(part) for part in key), *(_cell(column.get(key)) for column in columns)] for key in mixed_last
    ]
    measured = [_measured(figure, without_top=without_top) for figure in figures]
    body.append(["measured", *[""] * (len(definition.keys) - 1), *measured])
    head = [*(markdown(key) for key in definition.keys), *(UNIT_TITLES[figure.unit] for figure in figures)]
    return table(head, body, left=len(definition.keys))


def _row_map(figure: Figure, *, without_top: bool) -> dict[Key, Row]:
    rows = figure.rows
    if without_top:
        rows = figure.without_top_10[1] if figure.without_top_10 else ()
    return {row.key: row for row in rows}


def _measured(figure: Figure, *, without_top: bool) -> str:
    if without_top:
        return number(figure.without_top_10[0]) if figure.without_top_10 else ""
    return number(figure.coverage.measured)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    shown = counted(row.count, row.share)
    return shown if row.any == row.count else f"{shown} any {number(row.any)}"


def _coverage(figure: Figure) -> list[str]:
    coverage = figure.coverage
    missing = ", ".join(f"{markdown(reason)} {number(count)}" for reason, count in coverage.not_measured.items())
    return [UNIT_TITLES[figure.unit], number(coverage.attempted), number(coverage.measured), missing]


def _notes(report: Report) -> Iterator[str]:
    yield "## How to read the tables"
    yield ""
    yield (
        "A cell is `count (share)`: units whose measured endpoints all have the key, and their share of the "
        "measured ones. `any n` counts units with at least one such endpoint, where that differs. Units whose "
        "endpoints do not agree are in the row `mixed`."
    )
    yield ""
    for unit in dict.fromkeys(figure.unit for figure in report.figures):
        yield f"- {UNIT_TITLES[unit]}: {UNIT_NOTES[unit]}"
    yield ""
    yield "Figures that this scan cannot show:"
    yield ""
    for name, why in MISSING.items():
        yield f"- `{name}`: {why}"
