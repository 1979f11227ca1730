"""The attacker: has the release, knows the rules, and looks for intervals that are too narrow.

What it knows beside numbers and relations: a row that is listed has somebody in it; a number that is shown has
so many operators behind it at least; and among the hidden rows of a figure one is below the threshold (the
minimality of suppression), wherever that is so. Every value that it considers is a whole census of integers
which obeys all of that; so an interval is as wide as the values that are proved possible, not as the solver
says.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.definitions import Unit
from reports.disclosure.cells import COVERAGE, Cell
from reports.disclosure.programming import Column, Program, Row
from reports.disclosure.relations import Relation
from reports.disclosure.rules import Rules

TOGETHER = 6
"""Turns in which all narrow cells are moved at once, before each is moved alone."""

SPARE = 1000
"""Units that an attacker allows for where nothing bounds a cell; more than any promise of a small cell needs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A hidden cell, the lowest and highest value that were proved possible, and the promised width."""

    cell: Cell
    low: int
    high: int
    promised: int

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        return self.high - self.low >= self.promised


def audit(
    values: Mapping[Cell, int],
    shown: Collection[Cell],
    relations: Sequence[Relation],
    rules: Rules,
    *,
    rough: bool = False,
) -> list[Finding]:
    """Attack a release of which `shown` are the cells with a number; findings for every other cell.

    `values` has the true number of every listed cell: the first possible census, and the measure of the promise.
    A rough attack stops early, and may call narrow what is wide enough.
    """
    exact = {cell: (value, value) for cell, value in values.items() if cell in shown}
    attack = Attack(values, exact, relations, values)
    for small in _below_threshold(values, shown, rules):
        attack.add_minimality(small, rules.min_count - 1)
    promised = {cell: rules.width(value) for cell, value in values.items() if cell not in shown}
    attack.look(promised, rough=rough)
    return [Finding(cell, *attack.seen[cell], width) for cell, width in promised.items()]


class Attack:
    """The program, and the extremes of every cell over all censuses that were found possible.

    `listed` are the cells with somebody in them, `known` the bounds of those that are shown, `start` a possible
    census, if one is known.
    """

    def __init__(
        self,
        listed: Iterable[Cell],
        known: Mapping[Cell, tuple[int, int]],
        relations: Sequence[Relation],
        start: Mapping[Cell, int],
    ) -> None:
        cells = dict.fromkeys([*listed, *(cell for relation in relations for cell, _ in relation.terms)])
        somebody = frozenset(listed)
        most = 2 * max((high for _, high in known.values()), default=0) + SPARE
        self.seen = {cell: (value, value) for cell, value in start.items()}
        self._place = {cell: at for at, cell in enumerate(cells)}
        self._columns = [
            Column(*known[cell]) if cell in known else Column(int(cell in somebody), most) for cell in cells
        ]
        self._rows: list[Row] = [
            ({self._place[cell]: factor for cell, factor in relation.terms}, relation.low, relation.high)
            for relation in relations
        ]

    def add_minimality(self, hidden: Sequence[Cell], below: int) -> None:
        """At least one of these is `below` at most."""
        chosen: dict[int, int] = {}
        for place in map(self._place.__getitem__, hidden):
            most = int(self._columns[place].high)
            chosen[len(self._columns)] = 1
            self._rows.append(({place: 1, len(self._columns): most - below}, None, most))
            self._columns.append(Column(0, 1))
        self._rows.append((chosen, 1, None))

    def look(self, promised: Mapping[Cell, int], *, rough: bool = False) -> bool:
        """Find censuses until each interval is as wide as promised, or no wider; False where there are none."""
        program = Program(self._columns, self._rows)
        for turn in range(TOGETHER):  # many at once: upwards, downwards, then some one way and some the other
            left = [cell for cell, width in promised.items() if self.narrow(cell, width)]
            if not left:
                return True
            costs = {self._place[cell]: _sign(turn, at) / promised[cell] for at, cell in enumerate(left)}
            self._solve(program, costs)
            if program.impossible:
                return False
        for cell, width in {} if rough else promised.items():
            for sign in (-1.0, 1.0):
                if self.narrow(cell, width):
                    self._solve(program, {self._place[cell]: sign})
        return True

    def narrow(self, cell: Cell, width: int) -> bool:
        """Whether nothing so wide has been proved of the cell."""
        low, high = self.seen.get(cell, (0, 0))
        return high - low < width

    def _solve(self, program: Program, costs: Mapping[int, float]) -> None:
        program.set_costs(costs)
        found = program.whole_numbers()
        if found is None:
            return
        for cell, place in self._place.items():
            low, high = self.seen.get(cell, (found[place], found[place]))
            self.seen[cell] = (min(low, found[place]), max(high, found[place]))


def _below_threshold(values: Mapping[Cell, int], shown: Collection[Cell], rules: Rules) -> list[list[Cell]]:
    """The hidden rows of each figure, where one of them has too few operators."""
    figures: dict[str, list[Cell]] = {}
    for cell in values:
        if cell.unit is Unit.OPERATOR and cell not in shown and cell.figure != COVERAGE:
            figures.setdefault(cell.figure, []).append(cell)
    return [cells for cells in figures.values() if any(values[cell] < rules.min_count for cell in cells)]


def _sign(turn: int, place: int) -> float:
    """Downwards is positive, since costs are minimised."""
    if turn < 2:
        return (-1.0, 1.0)[turn]
    return 1.0 if (place >> (turn // 2 - 1)) + turn & 1 else -1.0
