"""Linear and integer programs, solved by HiGHS: the one place that calls it.

An integer solution is rounded and checked against every row in exact arithmetic, so that no tolerance of the solver
counts for anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

Row = tuple[Mapping[int, int], int | None, int | None]
"""Coefficients by column, the lowest and the highest sum."""

SECONDS = 20.0
"""For one integer program; what is not solved by then is taken for unsafe."""


@dataclass(frozen=True, slots=True)
class Column:
    """One variable: its bounds, what a unit of it costs, whether it is a whole number."""

    low: float
    high: float
    cost: float = 0.0
    whole: bool = True


_NEAR = 1e-4


class Program:
    """A program whose objective and bounds may change between two solutions."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        self._rows = rows
        self.impossible = False  # whether the last solution failed for want of any
        self._bounds = [(column.low, column.high) for column in columns]
        self._solver = _solver()
        self._solver.passModel(_model(columns, rows))
        self._costs = np.array([column.cost for column in columns], dtype=np.double)

    def set_costs(self, costs: Mapping[int, float]) -> None:
        """These costs, and none for the other columns."""
        wanted = np.zeros(len(self._bounds), dtype=np.double)
        for column, cost in costs.items():
            wanted[column] = cost
        self.change_costs({int(at): float(wanted[at]) for at in np.flatnonzero(wanted != self._costs)})

    def change_costs(self, costs: Mapping[int, float]) -> None:
        """These costs; those of the other columns stay."""
        if costs:
            places = np.array(list(costs), dtype=np.int32)
            values = np.array(list(costs.values()), dtype=np.double)
            self._costs[places] = values
            self._solver.changeColsCost(len(places), places, values)

    def set_bounds(self, column: int, low: float, high: float) -> None:
        """Other bounds for one column."""
        self._bounds[column] = (low, high)
        self._solver.changeColBounds(column, low, high)

    def minimise(self) -> list[float] | None:
        """The cheapest solution, or None where there is none, or none was found in time."""
        # HiGHS's clock goes on from one run to the next.
        self._solver.setOptionValue("time_limit", self._solver.getRunTime() + SECONDS)
        self._solver.run()
        self.impossible = self._solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible
        if self._solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        return list(self._solver.getSolution().col_value)

    def whole_numbers(self) -> list[int] | None:
        """The cheapest solution if it is in whole numbers and obeys every row exactly, else None."""
        found = self.minimise()
        if found is None:
            return None
        rounded = [round(value) for value in found]
        near = all(abs(value - whole) < _NEAR for value, whole in zip(found, rounded, strict=True))
        return rounded if near and self._obeys(rounded) else None

    def _obeys(self, values: Sequence[int]) -> bool:
        if any(not low <= value <= high for value, (low, high) in zip(values, self._bounds, strict=True)):
            return False
        for terms, low, high in self._rows:
            total = sum(factor * values[column] for column, factor in terms.items())
            if (low is not None and total < low) or (high is not None and total > high):
                return False
        return True


def _solver() -> Any:
    # Not highspy.Highs, whose constructor prints a banner on standard output before anybody can forbid it.
    solver = highspy._core._Highs()  # noqa: SLF001  # the same solver
    for name, value in {
        "output_flag": False,
        "threads": 1,
        "random_seed": 1,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 0.99,
    }.items():
        solver.setOptionValue(name, value)
    return solver


def _model(columns: Sequence[Column], rows: Sequence[Row]) -> Any:
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(columns), len(rows)
    model.col_cost_ = np.array([column.cost for column in columns], dtype=np.double)
    model.col_lower_ = np.array([column.low for column in columns], dtype=np.double)
    model.col_upper_ = np.array([column.high for column in columns], dtype=np.double)
    model.row_lower_ = np.array([-highspy.kHighsInf if low is None else low for _, low, _ in rows], dtype=np.double)
    model.row_upper_ = np.array(
        [highspy.kHighsInf if high is None else high for _, _, high in rows], dtype=np.double
    )
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.cumsum([0, *(len(terms) for terms, _, _ in rows)], dtype=np.int32)
    model.a_matrix_.index_ = np.array([column for terms, _, _ in rows for column in terms], dtype=np.int32)
    model.a_matrix_.value_ = np.array([f for terms, _, _ in rows for f in terms.values()], dtype=np.double)
    if any(column.whole for column in columns):
        kinds = {True: highspy.HighsVarType.kInteger, False: highspy.HighsVarType.kContinuous}
        model.integrality_ = [kinds[column.whole] for column in columns]
    return model
