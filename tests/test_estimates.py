"""A sampled scan's report: right on average over every sample that could be drawn, and marked in every renderer."""

import copy
import csv
import io
import json
from collections import defaultdict
from itertools import combinations, product

import numpy as np
import pytest
from censuses import random_census, store
from rich.console import Console
from sqlalchemy import create_engine
from test_figures import info

from reports import as_csv, as_html, as_json, as_markdown, estimates, figures
from reports.amounts import AtLeast, Estimate, bounds_of
from reports.definitions import Source, Unit
from reports.terminal import print_summary
from reports.text import number
from scanner.ledger import Sample, SampledAddress, Stratum
from storage import counts, sampled, schema

STRATA = 2


def clusters_of(census):
    """Every address of an endpoint -> its cluster, by the operator of the first host on it."""
    operators = {}
    for endpoint in sorted(census.endpoints, key=lambda row: row["mx_host"]):
        operators.setdefault(endpoint["address"], census.hosts[endpoint["mx_host"]])
    return operators


def strata_of(census):
    """Two strata of operators that have an address of their own."""
    names = sorted(set(clusters_of(census).values()))
    return [names[0::STRATA], names[1::STRATA]]


def sample_of(census, chosen):
    """The sample in which these operators were drawn, and the census as a scan of it would have stored it."""
    operators, strata = clusters_of(census), strata_of(census)
    stratum_of = {name: at for at, names in enumerate(strata) for name in names}
    numbers = {name: at for at, name in enumerate(sorted(chosen))}
    sizes = [sum(operators[a] in names for a in operators) for names in strata]
    drawn = [sum(name in chosen for name in names) for names in strata]
    made = Sample(
        tuple(Stratum(len(names), drawn[at], sizes[at]) for at, names in enumerate(strata)),
        tuple(
            SampledAddress(
                address, stratum_of[name], numbers[name], drawn[stratum_of[name]] / len(strata[stratum_of[name]])
            )
            for address, name in sorted(operators.items())
            if name in chosen
        ),
    )
    scanned = copy.deepcopy(census)
    nothing = dict.fromkeys(("stage", "failure", "certificate", "client_auth", "tls_version", "software"))
    for row in scanned.endpoints:
        if operators[row["address"]] not in chosen:
            row.update({**nothing, "status": "not-tested", "reason": "not-sampled", "attempt": 0})
    return made, scanned


def read(census, sample=None):
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        store(connection, random_census(999))
        scan_id = store(connection, census)
        if sample is not None:
            sampled.store_sample(connection, scan_id, sample)
            sampled.store_sample(connection, scan_id, sample)  # a commit that went unanswered
            assert sampled.stored_sample(connection, scan_id) == sample
        else:
            assert sampled.read(connection, scan_id) is None
    with engine.connect() as connection:
        found = counts.read(connection, scan_id) if sample is None else sampled.read(connection, scan_id)
    engine.dispose()
    return found


def report_of_sample(census, chosen):
    made, scanned = sample_of(census, chosen)
    return estimates.build(read(scanned, made), info())


@pytest.fixture(scope="module")
def census():
    """Two strata of several operators, and addresses that operators share."""
    return random_census(11, domains=40, hosts=20, addresses=40, certificates=8)


@pytest.fixture(scope="module")
def sampled_report(census):
    first, second = strata_of(census)
    return report_of_sample(census, {*first[:2], *second[:2]})


def test_over_all_samples_that_could_be_drawn_estimates_are_right_on_average(census, monkeypatch):
    monkeypatch.setattr(estimates, "factors", lambda strata, stratum_of, seed: np.ones((len(stratum_of), 1)))
    first, second = strata_of(census)
    assert min(len(first), len(second)) >= 3
    but_one = (combinations(names, len(names) - 1) for names in (first, second))
    samples = [{*one, *other} for one, other in product(*but_one)]
    rows, measured = defaultdict(float), defaultdict(float)
    for chosen in samples:
        for figure in report_of_sample(census, chosen).figures:
            measured[figure.id, figure.unit] += float(figure.coverage.measured) / len(samples)
            for row in figure.rows:
                rows[figure.id, figure.unit, row.key, "count"] += float(row.count) / len(samples)
                rows[figure.id, figure.unit, row.key, "any"] += float(row.any) / len(samples)
    checked = 0
    for figure in figures.build(read(census), info()).figures:
        if figure.unit in (Unit.CERTIFICATE, Unit.ISSUER) or not observable(census, figure, samples):
            continue
        assert measured[figure.id, figure.unit] == pytest.approx(figure.coverage.measured), figure.id
        for row in figure.rows:
            assert rows[figure.id, figure.unit, row.key, "count"] == pytest.approx(row.count), (figure.id, row)
            assert rows[figure.id, figure.unit, row.key, "any"] == pytest.approx(row.any), (figure.id, row)
            checked += 1
    assert checked > 100


def observable(census, figure, samples):
    """Whether every unit is whole in some sample; one in more clusters of a stratum than are drawn never is."""
    operators = clusters_of(census)
    units = defaultdict(set)
    for endpoint in census.endpoints:
        host, address = endpoint["mx_host"], endpoint["address"]
        units[{Unit.ADDRESS: address, Unit.OPERATOR: census.hosts[host]}.get(figure.unit, host)].add(
            operators[address]
        )
    if figure.unit in (Unit.DOMAIN, Unit.WEIGHT):
        whole = units
        units = {
            row["domain"]: set().union(*(whole.get(host, set()) for host in row["mx"])) for row in census.domains
        }
    return all(any(needed <= chosen for chosen in samples) for needed in units.values())


def test_a_sample_of_all_is_the_census(census):
    everything = {name for names in strata_of(census) for name in names}
    told, known = report_of_sample(census, everything), figures.build(read(census), info())
    for figure in told.figures:
        same = known.figure(figure.id, figure.unit)
        if figure.unit is not Unit.CERTIFICATE:
            assert (figure.rows, figure.coverage, figure.without_top_10) == (
                same.rows,
                same.coverage,
                same.without_top_10,
            )
            assert not any(isinstance(row.count, Estimate) for row in figure.rows)
        else:
            assert [(row.key, row.count) for row in figure.rows] == [(row.key, row.count) for row in same.rows]


def test_attempted_is_known_exactly_and_rows_sum_to_measured(census, sampled_report):
    known = figures.build(read(census), info())
    for figure in sampled_report.figures:
        if figure.unit is Unit.CERTIFICATE:
            continue
        assert figure.coverage.attempted == pytest.approx(known.figure(figure.id, figure.unit).coverage.attempted)
        assert not isinstance(figure.coverage.attempted, Estimate)
        assert sum(float(row.count) for row in figure.rows) == pytest.approx(float(figure.coverage.measured))


def test_distinct_certificates_are_lower_bounds_and_what_cannot_be_told_is_left_out(census, sampled_report):
    known = figures.build(read(census), info())
    certificates = [figure for figure in sampled_report.figures if figure.unit is Unit.CERTIFICATE]
    assert {figure.id for figure in certificates} >= {"eku", "hierarchy", "programs", "validity"}
    assert not {figure.id for figure in certificates} & {"client_auth", "eku_by_client_auth"}
    for figure in certificates:
        true = {row.key: row.count for row in known.figure(figure.id, figure.unit).rows}
        for row in figure.rows:
            assert isinstance(row.count, AtLeast)
            assert row.share is None
            assert row.count <= true[row.key]
    assert all(figure.definition.source is not Source.PRIVATE_SPREAD for figure in sampled_report.figures)


def test_every_format_marks_estimates_and_gives_their_intervals(sampled_report):
    told = [(f, row) for f in sampled_report.figures for row in f.rows if isinstance(row.count, Estimate)]
    least = [row for f in sampled_report.figures for row in f.rows if isinstance(row.count, AtLeast)]
    assert len(told) > 100
    markdown, page = as_markdown.render(sampled_report), as_html.render(sampled_report)
    for _, row in told:
        for shown in (markdown, page.replace("&lt;", "<").replace("&gt;", ">")):
            assert number(row.count) in shown
    assert all(number(row.count) in markdown and number(row.count) in page for row in least)
    assert "sample of" in markdown
    assert "sample of" in page
    document = json.loads(as_json.render(sampled_report))
    assert document["sample"]["addresses"] == sampled_report.sample.drawn
    rows = {
        (figure["id"], figure["unit"], tuple(row["key"].values())): row
        for figure in document["figures"]
        for row in figure["rows"]
    }
    lines = {
        (line["figure"], line["unit"], frozenset((k, line[k]) for k in as_csv.KEY_FIELDS if line[k])): line
        for line in csv.DictReader(io.StringIO(as_csv.render(sampled_report)))
    }
    for figure, row in told:
        assert tuple(rows[figure.id, str(figure.unit), row.key]["interval"]["count"]) == row.count.bounds
        key = frozenset(zip(figure.definition.keys, row.key, strict=True))
        line = lines[figure.id, str(figure.unit), key]
        assert (line["kind"], float(line["count_low"])) == ("estimate", row.count.bounds[0])
        if bounds_of(row.share):
            assert float(line["share_high"]) == row.share.bounds[1]


def test_the_terminal_and_the_headlines_mark_estimates(sampled_report):
    out = io.StringIO()
    print_summary(sampled_report, Console(file=out, width=200))
    assert "sample of" in out.getvalue()
    assert "≈" in out.getvalue()
    assert "≥" in out.getvalue()


def test_addresses_drawn_simply_have_wilsons_intervals():
    census = random_census(4, domains=30, hosts=20, addresses=20)
    for at, row in enumerate(census.endpoints):  # one address each, one operator each
        census.hosts[row["mx_host"]] = f"op{at}.example"
        row["address"] = f"192.0.2.{at + 1}"
        census.addresses[row["mx_host"]] = []
    addresses = sorted(row["address"] for row in census.endpoints)
    chosen = addresses[: len(addresses) // 2]
    fraction = len(chosen) / len(addresses)
    sample = Sample(
        (Stratum(len(addresses), len(chosen), len(addresses)),),
        tuple(SampledAddress(address, 0, at, fraction) for at, address in enumerate(chosen)),
    )
    for row in census.endpoints:
        if row["address"] not in chosen:
            row.update({"status": "not-tested", "reason": "not-sampled", "certificate": None, "attempt": 0})
    report = estimates.build(read(census, sample), info())
    assert "Wilson" in report.sample.method
    figure = report.figure("eku", Unit.ADDRESS)
    measured = round(float(figure.coverage.measured) * fraction)
    for row in figure.rows:
        seen = round(float(row.count) * fraction)
        assert row.share.bounds == estimates.wilson(seen, measured, fraction)
    assert "Wilson" not in report_of_sample(census, set(strata_of(census)[0])).sample.method
