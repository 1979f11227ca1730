"""From a stored scan to a rendered report: count once, build one Report, hand it to one renderer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from reports import as_csv, as_html, as_json, as_markdown, charts, estimates, figures, rows
from reports.figures import Figure, Report
from scanner import policy
from storage import counts, sampled
from storage.database import Database

RENDERERS: Mapping[str, Callable[[Report], str]] = MappingProxyType(
    {"json": as_json.render, "csv": as_csv.render, "md": as_markdown.render, "html": as_html.render}
)


IMAGES: Mapping[str, Callable[[Figure], bytes]] = MappingProxyType(
    {"svg": lambda figure: charts.svg(figure).encode(), "png": charts.png}
)
FORMATS = (*RENDERERS, *IMAGES)


def build(database: Database, scan: int | None, clients: int | None = None) -> Report:
    """All figures of a scan, by default of the latest; role client from the scan `clients`, by default the same."""
    info = database.scan_info(scan)
    other = info.scan if clients is None else database.scan_info(clients).scan
    rules = policy.load_policy().rules
    with database.reading() as connection:
        found = counts.read_clients(connection, other)
        seen = None if found is None else (found, other)
        drawn = sampled.read(connection, info.scan)
        if drawn is not None:
            return estimates.build(drawn, info, rules=rules, clients=seen)
        served = counts.read(connection, info.scan, clients=other)
    return figures.build(served, info, rules=rules, clients=seen)


def write(report: Report, form: str, path: Path | None) -> None:
    """Render to a file, whole or not at all, or to standard output; images to a directory, one a chart."""
    if form in IMAGES:
        _write_images(report, form, path)
        return
    rendered = RENDERERS[form](report)
    with rows.output(path) as out:
        out.write(rendered)


def _write_images(report: Report, form: str, path: Path | None) -> None:
    directory = path or Path()
    directory.mkdir(parents=True, exist_ok=True)
    for figure in charts.drawn(report):
        (directory / f"{figure.name}.{form}").write_bytes(IMAGES[form](figure))
