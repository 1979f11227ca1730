"""The chart of exposure: certificates by month, against the dates on which policies change."""

import re
from collections.abc import Sequence
from typing import Any

from reports.definitions import UNIT_TITLES
from reports.figures import Figure
from reports.text import number
from scanner.records import PolicyRule

BAR = "#3b76af"
END = "#b5495b"
INK = "#6b7280"
"""Text and lines that can be read on a white and on a dark page."""

LINE, LEVELS = 13, 3
"""Names of dates stand above the bars, in turn on several lines, so that near ones stay apart."""

_MONTH = re.compile(r"\d{4}-\d{2}")


def chart(altair: Any, figure: Figure) -> Any:
    """Bars a month, and a line at each policy date among them, in red where a program ends the combination.

    What has no month is said below the axis.
    """
    months = {row.key[0]: row.count for row in figure.rows if _MONTH.fullmatch(row.key[0])}
    rest = ", ".join(f"{row.key[0]} {number(row.count)}" for row in figure.rows if row.key[0] not in months)
    time = altair.Scale(type="utc")
    x = altair.X("month:T", timeUnit="utcyearmonth", scale=time, title=["first renewal that cannot be dual", rest])
    bars = (
        altair.Chart(
            altair.Data(values=[{"month": f"{name}-01", "count": months[name]} for name in sorted(months)])
        )
        .mark_bar(color=BAR)
        .encode(x=x, y=altair.Y("count:Q", title=UNIT_TITLES[figure.unit], axis=altair.Axis(tickMinStep=1)))
    )
    drawn = bars
    for place, value in enumerate(_dates(figure.rules, months)):
        line = altair.Chart(altair.Data(values=[value])).encode(x=altair.X("date:T", scale=time))
        colour = END if value["ends"] else INK
        name = line.mark_text(color=colour, baseline="bottom").encode(
            y=altair.value(-4 - LINE * (place % LEVELS)), text="name:N"
        )
        drawn += line.mark_rule(strokeDash=[4, 3], color=colour, strokeWidth=2) + name
    return drawn


def _dates(rules: Sequence[PolicyRule], months: dict[str, Any]) -> list[dict[str, Any]]:
    """Each date on which a rule for subscriber certificates begins; without a bar near only the ends."""
    by_date: dict[str, list[PolicyRule]] = {}
    for rule in rules:
        if rule.applies_to == "subscriber" and rule.superseded_by is None:
            by_date.setdefault(rule.date.isoformat(), []).append(rule)
    ends = {day for day, some in by_date.items() if any(rule.forbids_combination for rule in some)}
    known = sorted({*months, *(day[:7] for day in ends)}) or [""]
    return [
        {
            "date": day,
            "ends": day in ends,
            "name": f"{day} {', '.join(sorted({rule.program or 'validity' for rule in some}))}",
        }
        for day, some in sorted(by_date.items())
        if known[0] <= day[:7] <= known[-1]
    ]
