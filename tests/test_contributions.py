"""Who is behind each cell, read by SQL, against a recount of the tests' own; the same in both databases."""

from collections import defaultdict

import pytest
from censuses import random_census, store
from recount import operator_bands, recount, units_of, value_of
from sqlalchemy import create_engine
from test_figures import info

from reports import figures
from reports.definitions import Source, Unit
from reports.disclosure.cells import KINDS, Cell, cells
from reports.disclosure.rules import contribution
from reports.roles import CARRIES
from scanner.records import EkuClass
from storage import contributions, counts

STATUSES = {
    Source.PROFILE: ("measured",),
    Source.TESTED: ("measured", "failed"),
    Source.CLIENT_NEED: ("measured",),
}


def judged(url, census):
    engine = create_engine(url)
    with engine.begin() as connection:
        store(connection, random_census(998))  # another scan in the same database, never counted
        scan_id = store(connection, census)
    with engine.connect() as connection:
        report = figures.build(counts.read(connection, scan_id), info(scan_id))
        with contributions.reading(connection, scan_id) as source:
            found = cells(report, source, source.profiles)
    engine.dispose()
    return found


def behind(census, figure):
    """Key -> the units of each operator that has a counted endpoint in the row, and who has nothing measured."""
    bands = operator_bands(census)
    amounts = defaultdict(lambda: defaultdict(int))
    statuses = STATUSES[figure.definition.source]
    for _, amount, endpoints, _, _ in units_of(census, str(figure.unit)):
        kept = [e for e in endpoints if e["status"] in statuses]
        if figure.id == "client_need":  # released where nobody looked at clients
            carried = {EkuClass(value_of(census, bands, e, "eku")) for e in kept}
            keys = {(CARRIES[eku], "unknown", "unknown") for eku in carried}
        else:
            keys = {tuple(value_of(census, bands, e, field) for field in figure.definition.keys) for e in kept}
        if not keys:
            continue
        key = keys.pop() if len(keys) == 1 else ("mixed",) * len(figure.definition.keys)
        for operator in {census.hosts[e["mx_host"]] for e in kept}:
            amounts[key][operator] += amount
            amounts["measured"][operator] += amount
    return {key: contribution(by_operator.values()) for key, by_operator in amounts.items()}


@pytest.mark.parametrize("seed", range(6))
def test_contributions_equal_a_recount(database_url, seed):
    census = random_census(seed, domains=20 + 10 * seed, hosts=8 + 4 * seed, weights=False)
    found = judged(database_url, census)
    compared = 0
    for figure in found.figures:
        if figure.definition.source is Source.ROUTING:
            continue
        wanted = behind(census, figure)
        for row in figure.rows:
            cell = Cell(figure.unit, figure.id, row.key)
            if row.count:
                assert found.behind[cell] == wanted[row.key], cell
                compared += 1
        kind = KINDS[figure.definition.source]
        total = Cell(figure.unit, "coverage", (kind,))
        if total in found.values:
            assert found.behind[total] == wanted["measured"], total
    assert compared > 20
    assert set(found.behind) >= set(found.values)


def test_every_count_has_somebody_behind_it(database_url):
    census = random_census(7, domains=60, hosts=25)
    found = judged(database_url, census)
    assert all(found.behind[cell].operators for cell in found.values if cell.unit is not Unit.WEIGHT)
    _, rows = recount(census, ("eku",), "domain")
    assert {key for key, (count, _) in rows.items() if count} == {
        cell.key for cell in found.values if (cell.unit, cell.figure) == (Unit.DOMAIN, "eku")
    }
