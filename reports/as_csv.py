"""A report as one long CSV table: a line a row, a column for each key field, shares unrounded.

The key fields of other figures are empty on a line. A figure of which nothing was measured has no line.
"""

import csv
import io

from reports.definitions import DEFINITIONS
from reports.figures import Report
from reports.text import spreadsheet

KEY_FIELDS = tuple(dict.fromkeys(key for definition in DEFINITIONS for key in definition.keys))
COLUMNS = ("figure", "role", "unit", *KEY_FIELDS, "count", "any", "share", "attempted", "measured")


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
                )
            )
    return out.getvalue()
