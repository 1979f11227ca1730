"""What has to be hidden beside the sensitive cells, so that nothing hidden can be computed from what is shown.

For each cell that the audit finds too narrow, a linear program moves it by the promised width at the least cost in
shown cells (Fischetti and Salazar, Management Science 47, 2001); those that had to move are hidden too. The rows
of operators and MX hosts are hidden together, since they bound one another.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reports.definitions import Unit
from reports.disclosure.audit import Finding, audit
from reports.disclosure.cells import COVERAGE, Cell, Cells, Passed
from reports.disclosure.programming import Column, Program, Row
from reports.disclosure.relations import Relation, backed, holds, relations
from reports.disclosure.rules import UNKNOWN, RefusedError, Rules, sensitive
from reports.figures import Key

ROUNDS = 60
"""Of audit and suppression, before a release is refused."""

BOUND = frozenset({Unit.MX_HOST, Unit.OPERATOR})
"""Units that bound one another."""

Group = tuple[str, str, Key]
"""Cells that are hidden together: unit, figure, key."""


Check = Callable[[Mapping[Cell, int], Collection[Cell], Sequence[Relation]], list[Cell]]
"""The listed cells, those shown, and their relations -> the hidden cells that something else narrows."""


@dataclass(frozen=True, slots=True)
class Before:
    """What is out already: rows that stay hidden, cells that are known, units to leave out, one more attack."""

    hidden: frozenset[Group] = frozenset()
    known: frozenset[Cell] = frozenset()
    dropped: frozenset[Unit] = frozenset()
    check: Check = lambda _values, _shown, _ties: []


NOTHING_BEFORE = Before()


@dataclass(slots=True)
class _State:
    hidden: set[Group] = field(default_factory=set)
    dropped: set[Unit] = field(default_factory=set)
    fixed: frozenset[Group] = frozenset()

    def hide(self, cells: Iterable[Cell]) -> None:
        self.hidden |= {group(cell) for cell in cells} - self.fixed

    def listed(self, values: Mapping[Cell, int]) -> dict[Cell, int]:
        return {cell: value for cell, value in values.items() if cell.unit not in self.dropped}

    def shown(self, values: Mapping[Cell, int]) -> set[Cell]:
        return {cell for cell in self.listed(values) if group(cell) not in self.hidden}


def group(cell: Cell) -> Group:
    """What is hidden with a cell."""
    return "hosts" if cell.unit in BOUND else str(cell.unit), cell.figure, cell.key


def suppress(cells: Cells, rules: Rules, links: frozenset[str], before: Before = NOTHING_BEFORE) -> Passed:
    """Hide what is sensitive, and what would give it away; the audit has to agree. Raises `RefusedError`."""
    state = _State(set(before.hidden), set(before.dropped), frozenset(map(group, before.known)))
    for cell, value in cells.values.items():
        if sensitive(value, cells.behind.get(cell, UNKNOWN), rules):
            if group(cell) in state.fixed:
                raise RefusedError("refused: an earlier release shows a number that these rules hide")
            if cell.total:
                state.dropped.add(cell.unit)
            else:
                state.hide([cell])
    definitions = {figure.id: figure.definition for figure in cells.figures}
    for _ in range(ROUNDS):
        listed = state.listed(cells.values)
        if not listed:
            raise RefusedError("refused: too few operators are behind every number, or one is behind most of it")
        ties = [tie for tie in relations(listed, definitions, links) if holds(tie, listed)]
        shown = state.shown(cells.values)
        known = [*ties, *backed(listed, shown, rules.min_count)]
        if _widen(state, _narrow(audit(listed, shown, known, rules, rough=True)), listed, ties, rules):
            continue
        findings = audit(listed, shown, known, rules)
        narrow = _narrow(findings)
        if not narrow:
            narrow = before.check(listed, shown, ties)
        if not narrow:
            return Passed(frozenset(shown), frozenset(listed), frozenset(state.dropped))
        _force(state, narrow, listed)
    raise RefusedError("refused: the audit still narrows a hidden cell")


def _narrow(findings: Iterable[Finding]) -> list[Cell]:
    return [finding.cell for finding in findings if not finding.kept]


def _widen(
    state: _State, narrow: Sequence[Cell], values: Mapping[Cell, int], ties: Sequence[Relation], rules: Rules
) -> bool:
    """Hide what stands in the way of the narrow cells; whether anything was found."""
    before = len(state.hidden)
    shield = _Shield(values, state.shown(values), ties, state.fixed)
    for cell in narrow:
        moved = shield.cheapest(cell, rules.width(values[cell]))
        state.hide(moved)
        shield.release(other for other in values if group(other) in state.hidden)
    return len(state.hidden) > before


def _force(state: _State, narrow: Sequence[Cell], values: Mapping[Cell, int]) -> None:
    """No way was found: hide the smallest row that is left of the figure, or else all of the unit."""
    for figure, unit in sorted({(cell.figure, cell.unit) for cell in narrow}):
        left = [
            (values[cell], cell)
            for cell in state.shown(values)
            if cell.figure == figure and cell.unit is unit and not cell.total and group(cell) not in state.fixed
        ]
        if left:
            state.hide([min(left)[1]])
        else:
            state.dropped.add(unit)


class _Shield:
    """Finds the cheapest shown cells that have to give way, so that a hidden one may be something else."""

    def __init__(
        self,
        values: Mapping[Cell, int],
        shown: Collection[Cell],
        ties: Sequence[Relation],
        known: Collection[Group],
    ) -> None:
        self.values = values
        cells = dict.fromkeys([*values, *(cell for tie in ties for cell, _ in tie.terms)])
        self.up = {cell: 2 * at for at, cell in enumerate(cells)}
        self.bounds: list[tuple[float, float]] = []
        columns: list[Column] = []
        for cell in cells:
            value = values.get(cell, 0)
            fixed = cell.total or (cell in values and group(cell) in known)
            least = 1 if cell in values else 0
            cost = _cost(cell, value) if cell in shown else 0.0
            highs = (0.0 if fixed else math.inf, 0.0 if fixed else float(value - least))
            columns += [Column(0, high, cost, whole=False) for high in highs]
        self.bounds = [(column.low, column.high) for column in columns]
        self.shown = set(shown)
        self.program = Program(columns, [self._row(tie) for tie in ties])

    def _row(self, tie: Relation) -> Row:
        terms: dict[int, int] = {}
        now = 0
        for cell, factor in tie.terms:
            terms[self.up[cell]], terms[self.up[cell] + 1] = factor, -factor
            now += factor * self.values.get(cell, 0)
        return terms, None if tie.low is None else tie.low - now, None if tie.high is None else tie.high - now

    def release(self, cells: Iterable[Cell]) -> None:
        """These are hidden now, and cost nothing."""
        freed = [cell for cell in cells if cell in self.shown]
        self.shown.difference_update(freed)
        self.program.change_costs({self.up[cell] + side: 0.0 for cell in freed for side in (0, 1)})

    def cheapest(self, cell: Cell, width: int) -> set[Cell]:
        """The shown cells that move when `cell` does: partly down, the rest of the width up."""
        least = int(self.bounds[self.up[cell] + 1][1])
        down = min(least, width // 2)
        moved = self._move(self.up[cell], width - down)
        if down:
            moved |= self._move(self.up[cell] + 1, down)
        return moved

    def _move(self, column: int, amount: int) -> set[Cell]:
        other = column ^ 1
        self.program.set_bounds(column, amount, amount)
        self.program.set_bounds(other, 0, 0)
        found = self.program.minimise()
        for place in (column, other):
            self.program.set_bounds(place, *self.bounds[place])
        if found is None:
            return set()
        return {cell for cell in self.shown if found[self.up[cell]] + found[self.up[cell] + 1] > _NOTHING}


_NOTHING = 1e-6


def _cost(cell: Cell, value: int) -> float:
    """Large cells say more; but one large cell rather than many small ones, and totals last."""
    return (1.0 + math.log2(1 + value)) * (1 if len(cell.key) > 1 or cell.figure != COVERAGE else _TOTAL)


_TOTAL = 20
