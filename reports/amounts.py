"""Numbers that are not counts: an estimate with its interval, and a lower bound. Both are floats that say so.

An estimate carries its bootstrap replicates, so that sums and shares of estimates are estimates again, with
intervals of their own: a share's numerator and denominator vary together. Every renderer shows a number through
`reports.text.number`, which asks here; so none can show an estimate as if it had been counted.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

CONFIDENCE = 0.95
_Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""

_NOISE = 1e-9
"""What sums of floats differ by: a share this close to none or all is none or all."""

_MOST = 50.0
"""The widest interval, in logarithms: it says that nothing is known."""

Bounds = tuple[float, float]


class AtLeast(float):
    """A count of distinct things seen in a sample: all that can be said is that there are as many.

    A share of such a count says nothing, and is not a number.
    """

    __slots__ = ()

    def __truediv__(self, other: float) -> float:  # whatever it is divided by
        return math.nan

    def __add__(self, other: float) -> "AtLeast":
        return AtLeast(float(self) + other)

    __radd__ = __add__


class Estimate(float):
    """A total or a share told from a sample; `replicates` is a vector of the same number, resampled.

    `sums` and `squares` are those of what each group of units in the sample contributes: their quotient says how
    many contribute in effect (Kish), and so how far the spread can be trusted. `given` bounds stand in place of
    those from the replicates, until the number is added to another.
    """

    __slots__ = ("_given", "_share", "replicates", "squares", "sums")

    replicates: Any
    sums: float
    squares: float
    _share: bool
    _given: Bounds | None

    def __new__(
        cls,
        value: float,
        replicates: Any,
        sums: float = 0.0,
        squares: float = 0.0,
        *,
        share: bool = False,
        given: Bounds | None = None,
    ) -> Self:
        made = super().__new__(cls, value)
        made.replicates = replicates
        made.sums, made.squares = sums, squares
        made._share, made._given = share, given
        return made

    def __add__(self, other: float) -> "Estimate":
        sums, squares = (other.sums, other.squares) if isinstance(other, Estimate) else (0.0, 0.0)
        return Estimate(
            float(self) + float(other), self.replicates + _of(other), self.sums + sums, self.squares + squares
        )

    __radd__ = __add__

    def __truediv__(self, other: float) -> "Estimate":
        replicates = _quotient(self.replicates, _of(other))
        return Estimate(float(self) / float(other), replicates, self.sums, self.squares, share=True)

    def __rtruediv__(self, other: float) -> "Estimate":
        return Estimate(float(other) / float(self), _quotient(other, self.replicates), share=True)

    @property
    def bounds(self) -> Bounds:
        """The interval that covers the true number in 95 of 100 samples."""
        if self._given is not None:
            return self._given
        error = float(self.replicates.std()) if hasattr(self.replicates, "std") else 0.0
        quantile = student(self.sums**2 / self.squares - 1) if self.squares else _Z
        make = share_interval if self._share else total_interval
        return make(float(self), error, quantile)


def wilson(seen: int, of: int, fraction: float) -> Bounds:
    """The interval of a share seen `seen` times in a simple random sample of `of`, a `fraction` of all (Wilson).

    The sample is taken for as large as its variance makes it: without replacement, a larger one with replacement.
    """
    if not of or fraction >= 1:
        share = seen / of if of else 0.0
        return share, share
    size, share, z2 = of / (1 - fraction), seen / of, _Z**2
    middle = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = _Z * math.sqrt(share * (1 - share) / size + z2 / (4 * size**2)) / (1 + z2 / size)
    return max(0.0, middle - half), min(1.0, middle + half)


def student(freedom: float) -> float:
    """The 97.5th percentile of Student's distribution (Abramowitz and Stegun 26.7.5); at least 3 degrees."""
    z, v = _Z, max(freedom, 3.0)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def total_interval(value: float, error: float, quantile: float = _Z) -> Bounds:
    """The interval of a total: symmetric in its logarithm, since a small one may be far too low."""
    if value <= 0 or error == 0:
        return value, value
    factor = math.exp(min(quantile * error / value, _MOST))
    return value / factor, value * factor


def share_interval(share: float, error: float, quantile: float = _Z) -> Bounds:
    """The interval of a share: symmetric in its logit, so that it stays between 0 and 1."""
    if not _NOISE < share < 1 - _NOISE or error == 0:
        return share, share
    odds = share / (1 - share)
    factor = math.exp(min(quantile * error / (share * (1 - share)), _MOST))
    return odds / factor / (1 + odds / factor), odds * factor / (1 + odds * factor)


def bounds_of(value: float | None) -> Bounds | None:
    """The interval of an estimate, None for a number that is none."""
    return value.bounds if isinstance(value, Estimate) else None


def total(values: Sequence[float]) -> float:
    """The sum: exact for counts, correctly rounded for weights, an estimate where one is among them."""
    if any(isinstance(value, Estimate | AtLeast) for value in values):
        return sum(values)
    return sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)


def _of(value: float) -> Any:
    return value.replicates if isinstance(value, Estimate) else float(value)


def _quotient(numerator: Any, denominator: Any) -> Any:
    """Replicates of a share; where nothing was measured in a replicate there is no share, and 0 stands for it."""
    safe = denominator + (denominator == 0)
    return numerator / safe
