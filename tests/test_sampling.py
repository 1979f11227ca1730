"""What a sample draws, with which probability, and what is told from it: against enumeration and simulation."""

import math
from collections import Counter
from itertools import combinations

import pytest

from benchmarks import coverage
from reports.amounts import AtLeast, Estimate, share_interval, student, total, total_interval, wilson
from reports.bootstrap import factors, inclusion_probability
from reports.text import counted, number, percent
from scanner.ledger import Stratum
from scanner.sampling import LEAST, Candidate, draw

OPERATORS = {f"operator{number}": 1 + number % 4 for number in range(200)}
CANDIDATES = [Candidate(f"{name}/{at}", name, size * 5) for name, size in OPERATORS.items() for at in range(size)]


def test_a_sample_holds_whole_operators_with_their_probability():
    sample = draw(CANDIDATES, 120, seed=1)
    drawn = Counter(address.address.split("/")[0] for address in sample.addresses)
    assert all(OPERATORS[name] == count for name, count in drawn.items())
    assert abs(len(sample.addresses) - 120) < 40
    for address in sample.addresses:
        stratum = sample.strata[address.stratum]
        assert address.probability == stratum.drawn / stratum.clusters
    assert sum(stratum.clusters for stratum in sample.strata) == len(OPERATORS)
    assert sum(stratum.addresses for stratum in sample.strata) == len(CANDIDATES)
    assert all(stratum.drawn >= min(LEAST, stratum.clusters) for stratum in sample.strata)


def test_larger_operators_are_drawn_more_densely():
    sample = draw(CANDIDATES, 120, seed=1)
    rates = [stratum.drawn / stratum.clusters for stratum in sample.strata]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_an_operator_too_large_for_the_sample_is_drawn_by_address():
    giant = [Candidate(f"giant/{at}", "giant", 100) for at in range(300)]
    sample = draw([*CANDIDATES, *giant], 200, seed=3)
    own = [address for address in sample.addresses if address.address.startswith("giant/")]
    assert 0 < len(own) < 300
    assert len({address.cluster for address in own}) == len(own)
    assert len({address.stratum for address in own}) == 1


def test_the_seed_decides_and_order_does_not():
    one = draw(CANDIDATES, 100, seed=5)
    assert draw(reversed(CANDIDATES), 100, seed=5) == one
    assert draw(CANDIDATES, 100, seed=6) != one


@pytest.mark.parametrize("size", [len(CANDIDATES), 10**6])
def test_a_sample_of_all_is_a_census(size):
    sample = draw(CANDIDATES, size, seed=1)
    assert len(sample.addresses) == len(CANDIDATES)
    assert {address.probability for address in sample.addresses} == {1.0}


def test_nothing_to_draw_from_is_an_empty_sample():
    assert draw([], 10, seed=1).addresses == ()


def test_every_cluster_of_a_stratum_is_drawn_equally_often():
    candidates = [Candidate(f"address{number}", f"operator{number}", 1) for number in range(20)]
    times = Counter(address.address for seed in range(2000) for address in draw(candidates, 5, seed=seed).addresses)
    assert min(times.values()) > 420  # 500 expected, standard deviation 19
    assert max(times.values()) < 580


@pytest.mark.parametrize("clusters", [[0], [1], [0, 1], [0, 0], [0, 0, 1], [2, 2], []])
def test_inclusion_probability_is_that_of_counting_all_samples(clusters):
    strata = [Stratum(5, 2, 5), Stratum(4, 3, 4), Stratum(2, 2, 2)]
    samples = hits = 0
    for first in combinations(range(5), 2):
        for second in combinations(range(4), 3):
            samples += 1
            chosen = {0: first, 1: second, 2: (0, 1)}
            wanted = {stratum: range(clusters.count(stratum)) for stratum in clusters}
            hits += all(set(members) <= set(chosen[stratum]) for stratum, members in wanted.items())
    assert inclusion_probability(strata, clusters) == pytest.approx(hits / samples)


def test_the_bootstrap_has_the_spread_of_the_closed_form():
    sizes = [3, 1, 8, 2, 5, 4, 9, 2, 6, 3, 7, 1]
    stratum = Stratum(40, len(sizes), 40)
    made = factors([stratum], [0] * len(sizes), seed=1, replicates=20_000)
    weight = stratum.clusters / stratum.drawn
    replicates = sum(weight * size * made[at] for at, size in enumerate(sizes))
    mean = sum(sizes) / len(sizes)
    variance = sum((size - mean) ** 2 for size in sizes) / (len(sizes) - 1)
    exact = math.sqrt(stratum.clusters**2 * (1 - 12 / 40) * variance / 12)
    assert float(replicates.mean()) == pytest.approx(weight * sum(sizes), rel=0.01)
    assert float(replicates.std()) == pytest.approx(exact, rel=0.03)


def test_what_was_drawn_whole_has_no_spread():
    made = factors([Stratum(3, 3, 3)], [0, 0, 0], seed=1, replicates=50)
    assert (made == 1).all()


def test_estimates_add_and_divide_with_their_replicates():
    made = factors([Stratum(50, 10, 50)], [0] * 10, seed=2, replicates=500)
    one, other = (Estimate(5.0 * n, 5 * n * made[at], 5 * n, 25 * n * n) for at, n in ((0, 3), (1, 7)))
    both = 0 + one + other
    assert float(both) == 50
    assert both.bounds[0] < 50 < both.bounds[1]
    share = one / both
    assert float(share) == pytest.approx(0.3)
    assert 0 < share.bounds[0] < 0.3 < share.bounds[1] < 1
    assert float(2 + one) == 17
    assert (one / one).bounds == (1.0, 1.0)


def test_lower_bounds_have_no_shares():
    count = total([AtLeast(3), AtLeast(4)])
    assert isinstance(count, AtLeast)
    assert counted(count, count / 10) == number(count) == "≥7"
    assert percent(count / 10) == "n/a"


def test_numbers_for_people_say_that_they_are_estimates():
    made = factors([Stratum(50, 10, 50)], [0] * 10, seed=2, replicates=500)
    shown = number(Estimate(1234.4, 1234 * made[0], 1234, 1234**2))
    assert shown.startswith("≈1,234 (")
    assert shown.endswith(")")
    assert "." not in shown


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e9, 1.960)])
def test_student(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize(
    ("seen", "of", "bounds"), [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0))]
)
def test_wilson_has_the_values_of_the_tables(seen, of, bounds):
    assert wilson(seen, of, 0.0) == pytest.approx(bounds, abs=1e-4)


def test_intervals_stay_where_numbers_can_be():
    low, high = total_interval(3.0, 2.0)
    assert 0 < low < 3 < high
    low, high = share_interval(0.99, 0.02)
    assert 0 < low < 0.99 < high < 1
    assert wilson(4, 8, 1.0) == (0.5, 0.5)
    assert share_interval(1 - 1e-12, 0.1) == (1 - 1e-12, 1 - 1e-12)
    assert math.isfinite(total_interval(1e-9, 1e9)[1])


def test_intervals_cover_the_truth_in_95_of_100_samples():
    """A short run of benchmarks/coverage.py; all intervals together, since one alone would be too uncertain."""
    world = coverage.make_world(2, operators=400)
    found = coverage.coverage(world, 150, range(60), replicates=100)
    common = {key: told for key, told in found.items() if key[1] in ("server-only", "server+client")}
    covered = sum(share for share, _ in common.values()) / len(common)
    assert 0.90 < covered < 0.99
    assert all(0.9 < mean < 1.1 for _, mean in common.values())
