"""The dashboard's pages, made from the same Report as every other format: text in, HTML text out.

    index    the scans of a database
    scan     one scan: answers, progress while it runs, its figures, downloads
    figure   one figure in all units: chart of one unit, tables
    classes  one class of a key field (a CA owner, a software): the rows of every figure that crosses it

Classes and counts only: no page knows a domain, a host or an address.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from reports.as_json import time_text
from reports.definitions import MIXED, UNIT_TITLES, Unit
from reports.figures import Figure, Report, Row
from reports.headlines import headlines
from reports.layout import cell, environment, question_of, section
from reports.text import counted, show
from scanner.records import Role, ScanInfo
from storage.standing import Standing

TEXTS = ("html", "json", "csv", "md")
IMAGES = ("svg", "png")

DRILLED = ("ca_owner", "software", "hierarchy", "client_auth", "eku")
"""Key fields whose classes have a page of their own."""

UNFINISHED = ("loading", "running")


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses within the dashboard; a token that came in the address goes on in it."""

    token: str | None

    def to(self, path: str, **query: str) -> str:
        """A path with its query; names in it are quoted."""
        words = {**query, **({"token": self.token} if self.token else {})}
        said = "&".join(f"{name}={quote(value, safe='')}" for name, value in words.items())
        return f"{path}?{said}" if said else path

    def figure(self, scan: int, name: str, unit: Unit | None = None) -> str:
        return self.to(f"/scans/{scan}/figures/{name}", **({"unit": str(unit)} if unit else {}))

    def of_class(self, scan: int, field: str, value: str) -> str | None:
        """The page of a class, None where there is none."""
        return (
            self.to(f"/scans/{scan}/classes/{field}", value=value) if field in DRILLED and value != MIXED else None
        )


def index(scans: Sequence[ScanInfo], links: Links) -> str:
    """All scans, the latest first."""
    return _page("scans.html.j2", links, scans=list(reversed(scans)), formats=TEXTS)


def scan(info: ScanInfo, report: Report, standing: Standing, links: Links) -> str:
    """One scan: what it answers, where it stands, what can be seen of it."""
    figures: dict[str, list[Figure]] = {}
    for first, *_ in report.sections():
        figures.setdefault(question_of(first), []).append(first)
    return _page(
        "scan.html.j2",
        links,
        scan=info,
        trust=report.trust,
        sample=report.sample,
        headlines=headlines(report),
        questions=figures,
        progress=progress(info, standing),
        formats=TEXTS,
        live=info.state in UNFINISHED,
    )


def progress(info: ScanInfo, standing: Standing) -> dict[str, object]:
    """Where a scan stands, as JSON values: counts only."""
    return {
        "scan": info.scan,
        "state": info.state,
        "started_at": time_text(info.started_at),
        "domains": standing.domains,
        "resolved": standing.domains - standing.unrouted,
        "endpoints": standing.measured + standing.failed + standing.due,
        "tested": standing.measured + standing.failed,
        "measured": standing.measured,
        "failed": standing.failed,
        "not_tested": standing.not_tested,
        "parked": standing.parked,
        "certificates": standing.certificates,
    }


def figure(
    report: Report, name: str, unit: Unit | None, chart: Callable[[Figure], str], links: Links
) -> str | None:
    """One figure, its chart in one unit, by default that of MX hosts; None for a figure that is not there."""
    figures = [found for found in report.figures if found.name == name]
    shown = in_unit(report, name, unit)
    if shown is None:
        return None
    return _page(
        "figure_page.html.j2",
        links,
        scan=report.scan,
        section=section(figures, None),
        shown=shown,
        chart=chart(shown) if shown.rows else "",
        images=IMAGES,
        to_class=(lambda field, value: links.of_class(report.scan.scan, field, value))
        if shown.role is Role.SERVER
        else None,
    )


def in_unit(report: Report, name: str, unit: Unit | None) -> Figure | None:
    """A figure in that unit, by default in MX hosts, else in its first; None where it is not counted so."""
    found = [figure for figure in report.figures if figure.name == name]
    if unit is not None:
        return next((figure for figure in found if figure.unit is unit), None)
    return next((figure for figure in found if figure.unit is Unit.MX_HOST), found[0] if found else None)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One figure within a class: its other key field, and a row a value with a cell a unit."""

    title: str
    id: str
    other: str
    units: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def classes(report: Report, field: str, value: str, links: Links) -> str | None:
    """One class of a key field, None where nothing is in it."""
    if field not in DRILLED:
        return None
    alone = [found for found in _servers(report) if found.definition.keys == (field,)]
    totals = [(UNIT_TITLES[found.unit], row) for found in alone for row in found.rows if row.key == (value,)]
    crossings = [made for name in _crossed(report, field) if (made := _crossing(report, name, field, value))]
    if not totals and not crossings:
        return None
    return _page(
        "classes.html.j2",
        links,
        scan=report.scan,
        field=field,
        value=value,
        of=alone[0] if alone else None,
        totals=[(unit, cell(row)) for unit, row in totals],
        crossings=crossings,
        to_class=lambda name, part: links.of_class(report.scan.scan, name, part),
    )


def _servers(report: Report) -> list[Figure]:
    """Classes are of what servers present."""
    return [figure for figure in report.figures if figure.role is Role.SERVER]


def _crossed(report: Report, field: str) -> list[str]:
    """Figures with two key fields, one of them this."""
    return list(
        dict.fromkeys(f.id for f in _servers(report) if len(f.definition.keys) == 2 and field in f.definition.keys)
    )


def _crossing(report: Report, name: str, field: str, value: str) -> Crossing | None:
    figures = [found for found in _servers(report) if found.id == name]
    keys = figures[0].definition.keys
    at = keys.index(field)
    columns: list[dict[str, Row]] = [
        {row.key[1 - at]: row for row in found.rows if row.key[at] == value} for found in figures
    ]
    sums = [sum(row.count for row in column.values()) for column in columns]
    parts = list(dict.fromkeys(part for column in columns for part in column))
    rows = [
        (part, [_within(column.get(part), total) for column, total in zip(columns, sums, strict=True)])
        for part in parts
    ]
    units = [UNIT_TITLES[found.unit] for found in figures]
    return Crossing(figures[0].definition.title, name, keys[1 - at], units, rows) if rows else None


def _within(row: Row | None, total: float) -> str:
    """A count with its share of the class, not of all that was measured."""
    return "" if row is None else counted(row.count, row.count / total if total else None)


def _page(template: str, links: Links, **values: object) -> str:
    made: str = environment().get_template(template).render(links=links, titles=UNIT_TITLES, show=show, **values)
    return made
