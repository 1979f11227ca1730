"""The chart of exposure: bars a month, and the dates of policies among them."""

import json
from dataclasses import replace

import pytest

from reports import charts
from reports.as_json import figure_document
from reports.definitions import DEFINITIONS, Unit
from reports.figures import Coverage, Figure, Row
from scanner.policy import load_policy

RULES = load_policy().rules
(DEFINITION,) = (definition for definition in DEFINITIONS if definition.id == "exposure")
COUNTS = {"2026-03": 1, "2026-09": 2, "2027-04": 3, "not-affected": 4, "unknown-sunset": 5}


def figure(counts=COUNTS, rules=RULES):
    rows = tuple(Row((key,), count, count, count / 15) for key, count in counts.items())
    return Figure(DEFINITION, Unit.CERTIFICATE, Coverage(15, 15, {}), rows, rules=rules)


def data(specification, field):
    """The values of that field in all layers' data."""
    sets = [layer["data"]["values"] for layer in specification["layer"]]
    return [value[field] for values in sets for value in values if field in value]


def test_months_are_bars_and_the_rest_is_said_below():
    specification = charts.specification(figure())
    assert data(specification, "month") == ["2026-03-01", "2026-09-01", "2027-04-01"]
    assert data(specification, "count") == [1, 2, 3]
    assert specification["layer"][0]["encoding"]["x"]["title"][1] == "not-affected 4, unknown-sunset 5"


def test_dates_of_policies_among_the_months():
    named = set(data(charts.specification(figure()), "name"))
    assert named == {"2026-03-15 validity", "2026-05-20 microsoft", "2027-03-15 chrome, validity"}


@pytest.mark.parametrize("counts", [{}, {"not-affected": 3}])
def test_without_months_the_end_still_has_a_line(counts):
    assert set(data(charts.specification(figure(counts)), "date")) == {"2027-03-15"}


def test_it_can_be_drawn_without_rules():
    assert charts.svg(figure(rules=())).startswith("<svg")


def test_json_has_the_rules_with_their_dates():
    document = json.loads(json.dumps(figure_document(figure())))
    chrome = next(rule for rule in document["rules"] if rule["id"] == "chrome-subscriber-2027-03-15")
    assert (chrome["date"], chrome["program"], chrome["forbids_combination"]) == ("2027-03-15", "chrome", True)
    assert "rules" not in figure_document(replace(figure(), rules=()))
