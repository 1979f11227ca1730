"""A release as files: JSON, one long CSV table, and Markdown to paste into minutes."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

from reports.as_markdown import table
from reports.definitions import MIXED, UNIT_TITLES, Unit
from reports.disclosure.release import Release, ReleasedFigure, document, share
from reports.text import markdown, number, percent, spreadsheet
from scanner.records import ClientAuth, EkuClass, Hierarchy

HIDDEN = "*"


def as_json(release: Release) -> str:
    """ASCII only, shares unrounded, with a final newline."""
    return json.dumps(document(release), indent=1, allow_nan=False) + "\n"


def as_csv(release: Release) -> str:
    """A line a row, a column a key field; numbers that are hidden are empty and `hidden` says so."""
    fields = tuple(dict.fromkeys(key for figure in release.figures for key in figure.definition.keys))
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(("figure", "unit", *fields, "count", "share", "hidden", "attempted", "measured"))
    for figure in release.figures:
        for row in figure.rows:
            key = dict(zip(figure.definition.keys, row.key, strict=True))
            hidden = "true" if row.count is None else "false"
            writer.writerow(
                (
                    figure.definition.id,
                    figure.unit,
                    *(spreadsheet(key.get(name, "")) for name in fields),
                    row.count,
                    row.share,
                    hidden,
                    figure.attempted,
                    figure.measured,
                )
            )
    return out.getvalue()


def as_markdown(release: Release) -> str:
    """Headlines, then a table a figure."""
    lines = ["# What mail servers present over STARTTLS: counts for publication", ""]
    lines += [*_source(release), "", "## Answers", ""]
    lines += [f"- {sentence}" for sentence in headlines(release)]
    lines.append("")
    for name in dict.fromkeys(figure.definition.id for figure in release.figures):
        lines += _section([figure for figure in release.figures if figure.definition.id == name])
    lines += ["## Withheld", ""]
    for reason in dict.fromkeys(why for _, _, why in release.withheld):
        names = [f"`{name}` ({UNIT_TITLES[unit]})" for name, unit, why in release.withheld if why == reason]
        lines.append(f"- {', '.join(names)}: {reason}.")
    return "\n".join(lines) + "\n"


def headlines(release: Release) -> Iterator[str]:
    """Answers from numbers that are shown, and only from those."""
    for unit in (Unit.CERTIFICATE, Unit.MX_HOST, Unit.DOMAIN):
        for name, classes, verb in _ANSWERS:
            figure = release.figure(name, unit)
            if figure is None or not figure.measured:
                continue
            counts = [row.count for row in figure.rows if row.key[0] in classes]
            said = "a number that is not shown"
            known = [count for count in counts if count is not None]
            if len(known) == len(counts):
                said = f"{number(sum(known))} ({percent(share(sum(known), figure.measured))})"
            yield f"Of {number(figure.measured)} measured {UNIT_TITLES[unit]}, {said} {verb}."


_ANSWERS: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("eku", (EkuClass.SERVER_AND_CLIENT,), "carry serverAuth and clientAuth together"),
    ("hierarchy", (Hierarchy.PUBLIC_CHROME,), "come from a hierarchy that Chrome trusts"),
    ("hierarchy", (Hierarchy.PRIVATE, Hierarchy.SELF_SIGNED), "are private for certain, self-signed included"),
    ("client_auth", (ClientAuth.REQUIRED,), "go no further without a client certificate"),
)


def _source(release: Release) -> Iterator[str]:
    source, rules = release.source, release.method.rules
    finished = source.finished_at or "not finished"
    yield f"- Measured: {source.started_at} to {finished}, as a stranger who delivers mail"
    yield f"- Population: {markdown(source.population)}"
    trust = f"{markdown(source.trust_id or 'none')}, as of {markdown(source.trust_as_of or 'unknown')}"
    yield f"- Trust snapshot: {trust}"
    yield f"- mxcensus {markdown(source.tool_version)}, rules {markdown(source.rules_version)}"
    yield (
        f"- `{HIDDEN}` is hidden: fewer than {rules.min_count} operators are behind the number, one is behind "
        f"more than {percent(rules.dominance)} of it, two could tell a third's, or it would give such a number away"
    )
    if release.method.round_to > 1:
        yield f"- Counts are rounded to multiples of {release.method.round_to}"


def _section(figures: Sequence[ReleasedFigure]) -> Iterator[str]:
    definition = figures[0].definition
    yield f"## {definition.title} (`{definition.id}`)"
    yield ""
    yield f"Counted: {definition.numerator}; out of: {definition.denominator}. {definition.caveat}"
    yield ""
    columns = [{row.key: row for row in figure.rows} for figure in figures]
    keys = sorted(dict.fromkeys(key for column in columns for key in column), key=lambda key: key[0] == MIXED)
    body = []
    for key in keys:
        cells = [column.get(key) for column in columns]
        texts = ["0" if cell is None else _cell(cell.count, cell.share) for cell in cells]
        body.append([*map(markdown, key), *texts])
    for label, numbers in (
        (figures[0].kind, [figure.measured for figure in figures]),
        ("attempted", [figure.attempted for figure in figures]),
    ):
        body.append([label, *[""] * (len(definition.keys) - 1), *(_cell(count, None) for count in numbers)])
    head = [*map(markdown, definition.keys), *(UNIT_TITLES[figure.unit] for figure in figures)]
    yield from table(head, body, left=len(definition.keys))
    yield ""
    if figures[0].not_measurable:
        yield f"Not measurable with this snapshot: {', '.join(figures[0].not_measurable)}."
        yield ""


def _cell(count: int | None, part: float | None) -> str:
    if count is None:
        return HIDDEN
    return number(count) if part is None else f"{number(count)} ({percent(part)})"
