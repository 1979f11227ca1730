"""A report as one long CSV table: a line a row, a column for each key field, shares unrounded.

The key fields of other figures are empty on a line. A figure of which nothing was measured has no line. `kind` says
whether `count` is a `count`, an `estimate` from a sample with the 95 % interval `count_low` to `count_high`, or a
`lower-bound`.
"""

import csv
import io

from reports.amounts import AtLeast, Estimate, bounds_of
from reports.definitions import DEFINITIONS
from reports.figures import Report
from reports.text import spreadsheet

KEY_FIELDS = tuple(dict.fromkeys(key for definition in DEFINITIONS for key in definition.keys))
COLUMNS = (
    *("figure", "role", "unit", *KEY_FIELDS, "count", "any", "share", "attempted", "measured"),
    *("kind", "count_low", "count_high", "share_low", "share_high"),
)


def render(report: Report) -> str:
    """The table with its header, lines ended by CRLF (RFC 4180)."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for figure in report.figures:
        for row in figure.rows:
            key = dict(zip(figure.definition.keys, row.key, strict=True))
            writer.writerow(
                (
                    figure.id,
                    figure.role,
                    figure.unit,
                    *(spreadsheet(key.get(name, "")) for name in KEY_FIELDS),
                    row.count,
                    row.any,
                    row.share,
                    figure.coverage.attempted,
                    figure.coverage.measured,
                    _kind(row.count),
                    *(bounds_of(row.count) or ("", "")),
                    *(bounds_of(row.share) or ("", "")),
                )
            )
    return out.getvalue()


def _kind(count: float) -> str:
    if isinstance(count, AtLeast):
        return "lower-bound"
    return "estimate" if isinstance(count, Estimate) else "count"
