"""Figures over random censuses against a recount of the tests' own."""

import csv
import io
import json
import math
from collections import Counter, defaultdict

import pytest
from censuses import START, Census, random_census, store
from recount import private_issuer, recount
from sqlalchemy import create_engine

from reports import as_csv, as_json, as_markdown
from reports.definitions import DEFINITIONS, UNIT_TITLES, Source, Unit
from reports.figures import build
from scanner.records import Role, ScanInfo
from storage import counts, schema

SEEDS = range(25)
STATUSES = {Source.PROFILE: ("measured",), Source.TESTED: ("measured", "failed")}


def info(scan_id=1):
    settings = {"trust": {"as_of": "2026-03-01", "not_measurable": ["public-other-purpose"]}}
    return ScanInfo(scan_id, "random", START, START, "finished", "0.0", "1", "test", 1, settings)


def report_of(census):
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        store(connection, random_census(999))  # another scan in the same database, never counted
        scan_id = store(connection, census)
    with engine.connect() as connection:
        counted = counts.read(connection, scan_id)
        clients = counts.read(connection, scan_id, Role.CLIENT)
    engine.dispose()
    return build(counted, info(scan_id), clients=(clients, scan_id))


@pytest.fixture(scope="module", params=SEEDS)
def case(request):
    size = request.param
    census = random_census(size, domains=10 + 3 * size, hosts=3 + size)
    return census, report_of(census)


def close(left, right):
    return math.isclose(left, right, abs_tol=1e-9)


def test_figures_equal_a_recount(case):
    census, report = case
    for figure in report.figures:
        if figure.definition.source not in STATUSES:
            continue
        missing, rows = recount(census, figure.definition.keys, figure.unit, STATUSES[figure.definition.source])
        where = (figure.id, figure.unit)
        assert {row.key for row in figure.rows} == set(rows), where
        for row in figure.rows:
            assert close(row.count, rows[row.key][0]), (where, row)
            assert close(row.any, rows[row.key][1]), (where, row)
        assert set(figure.coverage.not_measured) == set(missing), where
        assert all(close(figure.coverage.not_measured[name], missing[name]) for name in missing), where


def test_headline_figures_without_the_largest_operators_equal_a_recount(case):
    census, report = case
    headlines = [figure for figure in report.figures if figure.without_top_10 is not None]
    assert {figure.id for figure in headlines} == {"eku", "hierarchy", "programs", "client_auth", "exposure"}
    for figure in headlines:
        measured, found = figure.without_top_10
        _, rows = recount(census, figure.definition.keys, figure.unit, without_top=True)
        assert {row.key for row in found} == set(rows)
        assert all(close(row.count, rows[row.key][0]) and close(row.any, rows[row.key][1]) for row in found)
        assert close(measured, sum(count for count, _ in rows.values()))


def test_rows_sum_to_measured_and_coverage_to_attempted(case):
    _, report = case
    servers = [figure for figure in report.figures if figure.role is Role.SERVER]
    assert len(servers) == sum(len(definition.units) for definition in DEFINITIONS)
    for figure in report.figures:
        coverage = figure.coverage
        assert close(sum(row.count for row in figure.rows), coverage.measured), (figure.id, figure.unit)
        assert close(coverage.attempted, coverage.measured + sum(coverage.not_measured.values()))
        assert close(sum(coverage.bias.values()), sum(coverage.not_measured.values()))
        for row in figure.rows:
            assert row.any >= row.count or close(row.any, row.count)
            assert row.share == (row.count / coverage.measured if coverage.measured else None)


def test_every_domain_and_all_weight_is_in_the_coverage(case):
    census, report = case
    for figure in report.figures:
        if figure.unit is Unit.DOMAIN:
            assert figure.coverage.attempted == len(census.domains)
        if figure.unit is Unit.WEIGHT:
            assert close(figure.coverage.attempted, sum(row["weight"] or 0 for row in census.domains))


def test_routing(case):
    census, report = case
    expected = Counter(row["routing"] for row in census.domains)
    unresolved = expected.pop(None, 0)
    figure = report.figure("routing", Unit.DOMAIN)
    assert {row.key[0]: row.count for row in figure.rows} == expected
    assert all(row.any == row.count for row in figure.rows)
    assert figure.coverage.not_measured == ({"unresolved": unresolved} if unresolved else {})


def test_private_share_is_a_range_of_rows(case):
    _, report = case
    shared = [figure for figure in report.figures if figure.private_share is not None]
    assert [figure.id for figure in shared] == ["hierarchy"] * 7
    for figure in shared:
        rows = {row.key[0]: row.count for row in figure.rows}
        low = rows.get("private", 0) + rows.get("self-signed", 0)
        assert close(figure.private_share.low.count, low)
        assert close(figure.private_share.high.count, low + rows.get("undetermined", 0))
        assert figure.not_measurable == ("public-other-purpose",)


def test_names_of_one_address(case):
    census, report = case
    found = defaultdict(set)
    for endpoint in census.endpoints:
        if endpoint["status"] == "measured":
            found[endpoint["address"]].add((endpoint["mx_host"], endpoint["certificate"]))
    expected = Counter(
        "one-name"
        if len(pairs) == 1
        else "same-certificate"
        if len({certificate for _, certificate in pairs}) == 1
        else "different-certificates"
        for pairs in found.values()
    )
    figure = report.figure("sni_agreement", Unit.ADDRESS)
    assert {row.key[0]: row.count for row in figure.rows} == expected


def test_private_issuers_by_operators(case):
    census, report = case
    operators = defaultdict(set)
    for endpoint in census.endpoints:
        if endpoint["status"] == "measured":
            issuer = private_issuer(census.certificates[endpoint["certificate"]])
            if issuer is not None:
                operators[issuer].add(census.hosts[endpoint["mx_host"]])
    expected = Counter("1" if len(o) == 1 else "2-9" if len(o) < 10 else "10-99" for o in operators.values())
    figure = report.figure("private_spread", Unit.ISSUER)
    assert {row.key[0]: row.count for row in figure.rows} == expected


def test_every_format_has_the_same_numbers(case):
    same_numbers(case[1])


def same_numbers(report):
    """JSON, CSV and Markdown say what the report says."""
    lines = {}
    for line in csv.DictReader(io.StringIO(as_csv.render(report))):
        names = [name for name in as_csv.KEY_FIELDS if line[name]]
        key = tuple((name, line[name]) for name in names)
        share = float(line["share"]) if line["share"] else None
        lines[line["figure"], line["role"], line["unit"], key] = (
            *(float(line[name]) for name in ("count", "any")),
            share,
            float(line["attempted"]),
            float(line["measured"]),
        )
    seen = 0
    for figure in json.loads(as_json.render(report))["figures"]:
        for row in figure["rows"]:
            coverage = figure["coverage"]
            key = tuple((name, row["key"][name]) for name in as_csv.KEY_FIELDS if name in row["key"])
            assert lines[figure["id"], figure["role"], figure["unit"], key] == (
                row["count"],
                row["any"],
                row["share"],
                coverage["attempted"],
                coverage["measured"],
            )
            seen += 1
    assert seen == len(lines) > 0
    assert markdown_cells(report) == expected_cells(report)


def markdown_cells(report):
    """(figure, key, column) -> (count, any) out of the first table of each section."""
    found = {}
    for section in as_markdown.render(report).split("\n## ")[2:-1]:
        name = section.split("`")[1]
        role = "client" if section.startswith("As clients: ") or name == "client_need" else "server"
        table = [line for line in section.split("\n\n")[2].splitlines() if line.startswith("|")]
        head, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
        keys = next(d.keys for d in DEFINITIONS if d.id == name)
        for cells in body[1:-1]:
            for title, cell in zip(head[len(keys) :], cells[len(keys) :], strict=True):
                if cell:
                    count, _, more = cell.partition(" (")
                    any_count = more.partition(" any ")[2] or count
                    key = tuple(part.replace("\\", "") for part in cells[: len(keys)])
                    found[name, role, key, title] = (
                        float(count.replace(",", "")),
                        float(any_count.replace(",", "")),
                    )
    return found


def expected_cells(report):
    return {
        (figure.id, figure.role, row.key, UNIT_TITLES[figure.unit]): (float(row.count), float(row.any))
        for figures in report.sections()
        for figure in figures
        for row in figure.rows
    }


def test_an_empty_census_has_no_shares():
    report = report_of(Census())
    for figure in report.figures:
        assert figure.coverage.attempted == figure.coverage.measured == 0
        assert figure.rows == ()
    figure = report.figure("hierarchy", Unit.DOMAIN)
    assert figure.private_share.low.share is None
    assert not report.weighted
    assert report.figure("eku", Unit.WEIGHT) is None
    assert json.loads(as_json.render(report))["format_version"] == 1
    assert "Nothing was measured" in as_markdown.render(report)
