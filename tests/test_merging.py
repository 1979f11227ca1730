"""Several releases together: bounds that hold, sums where they may, refusals with a reason."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import trials
from censuses import START
from populations import population

from mxcensus.cli import main
from reports.definitions import Unit
from reports.disclosure import reading, render
from reports.disclosure.merging import Bounds, as_json, as_markdown, merge
from reports.disclosure.release import ReleasedRow
from reports.disclosure.rules import RefusedError, Rules

FIGURES, UNITS = {"eku", "hierarchy"}, {"mx_host", "operator", "weight"}


def released(seed, **options):
    people = population(seed, operators=30, most=3, weighted=True)
    return trials.publish(people, Rules(3), FIGURES, UNITS, **options)


@pytest.fixture(scope="module")
def two():
    return released(1), released(2)


def of(merged, name, unit):
    (figure,) = (f for f in merged.figures if (f.definition.id, f.unit) == (name, unit))
    return figure


def test_bounds_hold_whatever_the_overlap(two):
    (one, left), (other, right) = two
    merged = merge([left, right])
    compared = 0
    for figure in merged.figures:
        if figure.summed:
            continue
        for key, bounds in figure.rows:
            values = [found.values.get((figure.unit, figure.definition.id, key), 0) for found in (one, other)]
            assert bounds.low <= max(values)
            assert bounds.high is None or bounds.high >= sum(values)
            compared += 1
    assert compared > 10


def test_two_numbers_that_are_shown_lie_between_the_largest_and_the_sum(two):
    left, right = (release for _, release in two)
    key = ("server+client",)
    counts = [next(r.count for r in one.figure("eku", Unit.MX_HOST).rows if r.key == key) for one in (left, right)]
    assert None not in counts
    overlapping = dict(of(merge([left, right]), "eku", Unit.MX_HOST).rows)[key]
    disjoint = dict(of(merge([left, right], {Unit.MX_HOST}), "eku", Unit.MX_HOST).rows)[key]
    assert overlapping == Bounds(max(counts), sum(counts))
    assert disjoint == Bounds(sum(counts), sum(counts))


def test_a_hidden_cell_widens_the_bounds(two):
    left, right = (release for _, release in two)
    figure = left.figure("eku", Unit.MX_HOST)
    key = ("server+client",)
    rows = tuple(ReleasedRow(r.key, None, None) if r.key == key else r for r in figure.rows)
    hidden = replace(left, figures=(replace(figure, rows=rows),))
    before = dict(of(merge([left, right]), "eku", Unit.MX_HOST).rows)[key]
    after = dict(of(merge([hidden, right]), "eku", Unit.MX_HOST).rows)[key]
    assert after.low <= before.low
    assert after.high >= before.high
    assert after != before


def test_weights_of_the_same_days_add_up_and_others_do_not(two):
    left, right = (release for _, release in two)
    later = START + timedelta(days=2)
    _, shifted = released(2, started=later)
    for second, days, summed in ((right, 0, True), (shifted, 2, False)):
        merged = merge([left, second], days=days)
        assert {f.summed for f in merged.figures if f.unit is Unit.WEIGHT} <= {summed}
        assert {f.summed for f in merged.figures if f.unit is Unit.MX_HOST} == {False}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"role": "client"}, "roles"),
        ({"rules_version": "2"}, "classification rules"),
        ({"disclosure_version": "2"}, "disclosure rules"),
        ({"trust_id": "another"}, "trust snapshots"),
        ({"started_at": "2026-05-01T00:00:00Z", "finished_at": "2026-05-02T00:00:00Z"}, "date windows"),
        (None, "given twice"),
    ],
)
def test_what_counts_different_things_is_refused_with_the_reason(two, change, reason):
    (_, left), (_, right) = two
    other = left if change is None else replace(right, source=replace(right.source, **change))
    with pytest.raises(RefusedError, match=reason):
        merge([left, other])


def test_a_figure_that_one_publisher_withholds_has_no_upper_bound(two):
    (_, left), (_, right) = two
    merged = merge([left, replace(right, figures=())])
    assert all(bounds.high is None for figure in merged.figures for _, bounds in figure.rows)


def test_a_release_survives_being_written_and_read(two):
    for _, one in two:
        back = reading.parse(render.as_json(one), "x")
        assert render.as_json(back) == render.as_json(one)


def test_the_command_merges_files_and_refuses_with_status_1(two, tmp_path, capsys):
    paths = []
    for place, (_, one) in enumerate(two):
        paths.append(str(tmp_path / f"{place}.json"))
        (tmp_path / f"{place}.json").write_text(render.as_json(one))
    assert main(["merge", *paths, "--disjoint", "mx_host"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["kind"] == "mxcensus merged releases"
    assert values == json.loads(as_json(merge([one for _, one in two], {Unit.MX_HOST})))
    assert main(["merge", *paths, "--format", "md", "-o", str(tmp_path / "out.md")]) == 0
    assert (tmp_path / "out.md").read_text() == as_markdown(merge([one for _, one in two]))
    assert main(["merge", paths[0], paths[0]]) == 1
    assert "given twice" in capsys.readouterr().err
    assert main(["merge", paths[0]]) == 2
    (tmp_path / "bad.json").write_text('{"kind": "mxcensus release", "format_version": 1, "source": {}}')
    assert main(["merge", paths[0], str(tmp_path / "bad.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
