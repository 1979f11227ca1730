"""When a cell is sensitive: too few operators, one that dominates, or one that two others could estimate.

The three are the threshold rule, the (1, k) dominance rule and the p% rule of statistical disclosure control
(Hundepool et al., Statistical Disclosure Control, 2012, chapter 4).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.figures import Number

RULES_VERSION = "1"
"""Of what is in this package: two releases are comparable only under the same."""

COALITION = 2
"""Contributors who might put together what they know of themselves to estimate another."""


class RefusedError(ValueError):
    """A release, or a merge of releases, that must not be; one line for the user."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters; `interval` is the part of a cell that an attacker's interval has to be wide at least."""

    min_count: int = 10
    dominance: float = 0.5
    p: float = 0.1
    interval: float = 0.1

    def width(self, value: Number) -> int:
        """How wide an attacker's interval for a hidden cell of this value stays: the promise."""
        return max(self.min_count, math.ceil(value * self.interval))


@dataclass(frozen=True, slots=True)
class Contribution:
    """Who is behind a cell: how many operators, and the largest of their amounts, in descending order."""

    operators: int
    largest: tuple[Number, ...]


UNKNOWN = Contribution(0, ())
"""Nobody knows who is behind it; so it is sensitive."""


def contribution(amounts: Iterable[Number]) -> Contribution:
    """One operator's amount each; those of nothing do not count."""
    found = sorted((amount for amount in amounts if amount), reverse=True)
    return Contribution(len(found), tuple(found[: COALITION + 1]))


def sensitive(value: Number, behind: Contribution, rules: Rules) -> bool:
    """Whether a cell may not be shown. A cell of nothing may: nobody is in it.

    Units of several operators count in full for each of them, so the remainder for the p% rule is not overstated.
    """
    if value == 0:
        return False
    if behind.operators < rules.min_count:
        return True
    largest = behind.largest[0]
    remainder = value - sum(behind.largest)
    return largest > rules.dominance * value or remainder < rules.p * largest
