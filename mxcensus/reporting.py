"""From a stored scan to a rendered report: count once, build one Report, hand it to one renderer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from reports import as_csv, as_json, as_markdown, figures, rows
from reports.figures import Report
from storage import counts
from storage.database import Database

RENDERERS: Mapping[str, Callable[[Report], str]] = MappingProxyType(
    {"json": as_json.render, "csv": as_csv.render, "md": as_markdown.render}
)


def build(database: Database, scan: int | None) -> Report:
    """All figures of a scan, by default of the latest."""
    info = database.scan_info(scan)
    with database.reading() as connection:
        return figures.build(counts.read(connection, info.scan), info)


def write(report: Report, form: str, path: Path | None) -> None:
    """Render to a file, whole or not at all, or to standard output."""
    rendered = RENDERERS[form](report)
    with rows.output(path) as out:
        out.write(rendered)
