"""Disclosure control: the rules one by one, and an attacker of the tests' own against random releases."""

import pytest
import trials
from attacker import Attacker
from populations import population

from reports.definitions import Unit
from reports.disclosure import differences, suppression
from reports.disclosure.audit import audit
from reports.disclosure.cells import COVERAGE, LINKED, Cell, cells
from reports.disclosure.relations import LATENT, Relation, holds, links, relations
from reports.disclosure.release import document
from reports.disclosure.rules import Contribution, RefusedError, Rules, contribution, sensitive
from reports.disclosure.suppression import suppress

RULES = Rules()
EVEN = (10, 10, 10)
ENOUGH = 8
"""Seeds of each of the suite's parts; `python tests/trials.py` runs more."""


@pytest.mark.parametrize(
    ("value", "behind", "hidden"),
    [
        (100, Contribution(10, EVEN), False),
        (90, Contribution(9, EVEN), True),  # threshold
        (100, Contribution(20, (50, 5, 5)), False),
        (100, Contribution(20, (51, 5, 5)), True),  # dominance
        (100, Contribution(20, (45, 30, 20)), False),  # 5 are left, of 45 a ninth
        (100, Contribution(20, (46, 30, 20)), True),  # p%: two others know the largest to within 4 of 46
        (0, Contribution(0, ()), False),  # nobody is in it
        (5, Contribution(0, ()), True),  # nobody knows
    ],
)
def test_a_cell_is_sensitive_by_threshold_dominance_and_p_percent(value, behind, hidden):
    assert sensitive(value, behind, RULES) is hidden


def test_a_contribution_counts_operators_and_keeps_the_largest():
    assert contribution([1, 0, 7, 3, 5]) == Contribution(4, (7, 5, 3))


def test_the_promise_is_the_threshold_or_a_tenth_of_the_cell():
    assert [RULES.width(value) for value in (3, 100, 101, 1000)] == [10, 10, 11, 100]


@pytest.fixture(scope="module")
def judged():
    people = population(4, operators=40, most=6)
    found = cells(people.report(), people, people.profiles)
    return people, found, links(people.profiles)


def test_every_relation_holds_in_a_real_population(judged):
    _, found, known = judged
    assert known == set(LATENT)
    ties = relations(found.values, {f.id: f.definition for f in found.figures}, known)
    assert len(ties) > 300
    untrue = [tie for tie in ties if not holds(tie, found.values)]
    assert [tie for tie in untrue if tie.certain] == []
    assert len(untrue) < len(ties) / 20


def test_links_are_kept_only_where_the_scan_obeys_them(judged):
    people, _, _ = judged
    strange = dict(people.profiles)
    number, profile = next(iter(strange.items()))
    strange[number] = tuple("private" if value.startswith("public") else value for value in profile)
    assert links(strange) != set(LATENT) or strange[number] == profile


def test_every_cell_knows_who_is_behind_it(judged):
    people, found, _ = judged
    assert set(found.behind) >= set(found.values)
    key = ("server+client",)
    rows = [row for row in people.endpoints if profile_of(people, row)[7] == "server+client"]
    hosts = {row["mx_host"] for row in people.endpoints if profile_of(people, row)[0] == "measured"}
    pure = {h for h in hosts if all(row in rows for row in people.endpoints if measured_on(people, row, h))}
    by_operator = [len({row["mx_host"] for row in rows if row["operator"] == o} & pure) for o in range(40)]
    assert found.values[Cell(Unit.MX_HOST, "eku", key)] == len(pure)
    assert found.behind[Cell(Unit.MX_HOST, "eku", key)] == contribution(by_operator)


def profile_of(people, row):
    return people.profiles[row["profile"]]


def measured_on(people, row, host):
    return row["mx_host"] == host and profile_of(people, row)[0] == "measured"


def test_figures_that_nobody_has_judged_are_withheld(judged):
    _, found, _ = judged
    assert {figure.id for figure in found.figures} <= set(LINKED)
    assert not {unit for _, unit in found.withheld} & {Unit.OPERATOR} or all(
        name not in LINKED for name, unit in found.withheld if unit is Unit.OPERATOR
    )


def test_nothing_sensitive_is_shown_and_the_audit_agrees(judged):
    _, found, known = judged
    rules = Rules(5)
    passed = suppress(found, rules, known)
    shown = {cell: found.values[cell] for cell in passed.shown}
    assert len(shown) > 30
    assert [cell for cell in shown if sensitive(shown[cell], found.behind[cell], rules)] == []
    listed = {cell: found.values[cell] for cell in passed.listed}
    ties = relations(listed, {f.id: f.definition for f in found.figures}, known)
    ties = [tie for tie in ties if holds(tie, listed)]
    findings = audit(listed, passed.shown, ties, rules)
    assert len(findings) == len(listed) - len(shown)
    assert all(finding.kept for finding in findings)


def test_a_population_of_too_few_operators_is_refused():
    people = population(1, operators=9)
    with pytest.raises(RefusedError, match="refused"):
        suppress(cells(people.report(), people, people.profiles), RULES, frozenset())


def test_the_audit_finds_what_a_sum_gives_away():
    a, b, total = (Cell(Unit.MX_HOST, "eku", (name,)) for name in ("a", "b", "all"))
    whole = Relation(((a, 1), (b, 1), (total, -1)), 0, 0)
    values = {a: 30, b: 4, total: 34}
    (alone,) = audit(values, {a, total}, [whole], RULES)
    assert (alone.low, alone.high, alone.kept) == (4, 4, False)
    both = audit(values, {total}, [whole], RULES)
    assert all(finding.kept for finding in both)
    small = audit({a: 3, b: 4, total: 7}, {total}, [whole], RULES)
    assert [finding.kept for finding in small] == [False, False]


def test_the_audit_knows_that_somebody_is_below_the_threshold():
    """Operators 4 and 12 of 16: one is below 10, so either may be 1 to 15; with 12 and 13 of 25 neither need be."""
    cell = {name: Cell(Unit.OPERATOR, "eku", (name,)) for name in ("a", "b")}
    total = Cell(Unit.OPERATOR, COVERAGE, ("measured",))
    whole = Relation(((cell["a"], 1), (cell["b"], 1), (total, -1)), 0, 0)
    values = {cell["a"]: 4, cell["b"]: 40, total: 44}
    found = {finding.cell: finding for finding in audit(values, {total}, [whole], Rules(10))}
    assert all(finding.kept for finding in found.values())
    third = Cell(Unit.OPERATOR, "eku", ("c",))
    fixed = Relation(((third, 1),), 40, 40)
    values = {cell["a"]: 4, third: 40, total: 44}
    narrow = audit(values, {total}, [Relation(((cell["a"], 1), (third, 1)), 0, 60), fixed], Rules(10))
    assert [finding.kept for finding in narrow] == [False, False]  # only a can be the one below: 1 to 9


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", ["one", "same", "grown"])
def test_an_attacker_never_narrows_a_hidden_cell_beyond_the_promise(kind, part):
    first = {"one": 0, "same": 5000, "grown": 7500}[kind] + part * ENOUGH
    totals, broken = trials.run(kind, range(first, first + ENOUGH))
    assert broken == {}
    assert totals["hidden"] > 0


def test_the_attacker_would_find_what_suppression_forgot(monkeypatch):
    monkeypatch.setattr(suppression, "audit", lambda *_, **__: [])
    _, broken = trials.run("one", range(4))
    assert len(broken) >= 3


def test_the_attacker_would_find_what_a_difference_tells(monkeypatch):
    monkeypatch.setattr(differences, "_telling", lambda *_: [])
    monkeypatch.setattr(differences._Other, "narrowed", lambda *_: [])
    _, broken = trials.run("grown", range(14, 21))
    assert len(broken) >= 2


def test_rounded_counts_say_no_more_than_exact_ones(judged):
    people, _, _ = judged
    names, units = {"eku", "hierarchy", "eku_by_hierarchy"}, {"mx_host", "operator"}
    _, exact = trials.publish(people, Rules(4), names, units)
    _, rounded = trials.publish(people, Rules(4), names, units, round_to=5)
    for left, right in zip(exact.figures, rounded.figures, strict=True):
        assert [row.count is None for row in sorted(left.rows, key=lambda row: row.key)] == [
            row.count is None for row in sorted(right.rows, key=lambda row: row.key)
        ]
        assert all(row.count % 5 == 0 for row in right.rows if row.count is not None)
        assert right.measured % 5 == 0
    attack = Attacker()
    attack.learn(document(rounded))
    assert attack.possible()
