"""The short summary that a scan ends with, for a terminal of any width; other formats have the full figures."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.definitions import PRESENTED, UNIT_TITLES, Unit
from reports.figures import Figure, Report, Row
from reports.headlines import headlines
from reports.text import counted, number, sample_line, show
from scanner.records import Role

SUMMARY = ("eku", "hierarchy", "client_auth")
CLIENT_SUMMARY = ("eku", "hierarchy")
UNITS = (Unit.CERTIFICATE, Unit.MX_HOST, Unit.DOMAIN)
MOST_ROWS = 12


def print_summary(report: Report, console: Console) -> None:
    """Print coverage, the main figures and the headlines. Text from outside is shown escaped, never as markup."""
    if report.sample is not None:
        console.print(Text(sample_line(report.sample), "bold"))
    console.print(_coverage(report))
    for name in SUMMARY:
        figures = [found for unit in UNITS if (found := report.figure(name, unit)) is not None]
        if any(figure.coverage.measured for figure in figures):
            console.print(_table(figures))
    if report.clients is not None:
        for name in CLIENT_SUMMARY:
            seen = [f for unit in PRESENTED if (f := report.figure(name, unit, Role.CLIENT)) is not None]
            console.print(_table(seen))
    share = _private(report)
    if share is not None:
        console.print(share)
    for headline in headlines(report):
        said = f"{show(headline.sentence, 1000)} ({headline.rung})"
        console.print(Text.assemble((headline.question, "bold"), " ", said, " ", (headline.unseen, "dim")))


def _coverage(report: Report) -> Table:
    table = Table(title="Coverage", title_justify="left", expand=False)
    table.add_column("unit", overflow="fold")
    table.add_column("attempted", justify="right", overflow="fold")
    table.add_column("measured", justify="right", overflow="fold")
    table.add_column("not measured", overflow="fold")
    for unit in (Unit.DOMAIN, Unit.MX_HOST, Unit.ENDPOINT):
        figure = report.figure("eku", unit)
        if figure is not None:
            coverage = figure.coverage
            missing = ", ".join(f"{name} {number(count)}" for name, count in coverage.bias.items())
            table.add_row(UNIT_TITLES[unit], number(coverage.attempted), number(coverage.measured), Text(missing))
    return table


def _table(figures: list[Figure]) -> Table:
    definition = figures[0].definition
    table = Table(title=figures[0].wording.title, title_justify="left", expand=False)
    table.add_column(", ".join(definition.keys), overflow="fold")
    for figure in figures:
        table.add_column(UNIT_TITLES[figure.unit], justify="right", overflow="fold")
    columns = [{row.key: row for row in figure.rows} for figure in figures]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    keys.sort(key=lambda key: key[0] == "mixed")
    for key in keys[:MOST_ROWS]:
        table.add_row(Text(show(", ".join(key), 60)), *(_cell(column.get(key)) for column in columns))
    return table


def _cell(row: Row | None) -> str:
    return "" if row is None else counted(row.count, row.share)


def _private(report: Report) -> Text | None:
    figure = report.figure("hierarchy", Unit.CERTIFICATE)
    if figure is None or figure.private_share is None or not figure.coverage.measured:
        return None
    low, high = figure.private_share.low, figure.private_share.high
    return Text.assemble(
        ("Private certificates: ", "bold"),
        f"{counted(low.count, low.share)} to {counted(high.count, high.share)} "
        f"of {number(figure.coverage.measured)}",
    )
