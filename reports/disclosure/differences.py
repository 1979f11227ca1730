"""A release beside those that are out already: subtracting one from the other must reveal nothing.

Of the same scan: what was shown is known and stays shown, what was hidden stays hidden, so the two say no more
than the second alone, and its audit is an audit of both.

Of another scan, perhaps of overlapping domains: what was hidden stays hidden. The change of a number is a
number too, and may be shown only if it is nothing, or if enough operators have come or gone; the row of
`operator` tells how many at least. And an attacker may suppose that the population only grew, or only shrank:
in whichever figures the releases leave that possible, every hidden cell of both keeps its interval.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from reports.definitions import Unit
from reports.disclosure.audit import Attack
from reports.disclosure.cells import ATTEMPTED, COVERAGE, UNITS, Cell, Cells, Passed
from reports.disclosure.relations import Relation, backed, holds, relations
from reports.disclosure.release import Earlier, Release, Source, rounded
from reports.disclosure.rules import RefusedError, Rules
from reports.disclosure.suppression import Before, Group, group, suppress


def protect(
    cells: Cells,
    rules: Rules,
    links: frozenset[str],
    source: Source,
    earlier: Sequence[Earlier],
    round_to: int = 1,
) -> Passed:
    """Suppress what this release has to hide, alone and beside the earlier ones. Raises `RefusedError`."""
    if not earlier:
        return suppress(cells, rules, links)
    hidden: set[Group] = set()
    known: set[Cell] = set()
    dropped: set[Unit] = set()
    others: list[_Other] = []
    for one in earlier:
        other = _Other(one.release, cells, links)
        if one.release.source.role != source.role:
            raise RefusedError("refused: an earlier release counts another role, and cannot be compared")
        hidden |= {group(cell) for cell in other.hidden}
        if _same_scan(one.release.source, source):
            if not cells.values.keys() >= other.shown.keys():
                raise RefusedError(
                    "refused: an earlier release of this scan shows rows that this one does not have"
                )
            known |= other.shown.keys()
            continue
        others.append(other)
        for cell in _telling(other, cells.values, rules, round_to):
            if cell.total:
                dropped.add(cell.unit)
            else:
                hidden.add(group(cell))
    if not hidden.isdisjoint(map(group, known)):
        raise RefusedError("refused: an earlier release shows a number that has to be hidden")

    def check(values: Mapping[Cell, int], shown: Collection[Cell], ties: Sequence[Relation]) -> list[Cell]:
        return [cell for other in others for cell in other.narrowed(values, shown, ties, rules, round_to)]

    before = Before(frozenset(hidden), frozenset(known), frozenset(dropped), check)
    return suppress(cells, rules, links, before)


def _same_scan(left: Source, right: Source) -> bool:
    fields = ("started_at", "finished_at", "rules_version", "trust_id", "role")
    return all(getattr(left, name) == getattr(right, name) for name in fields)


def _telling(other: "_Other", values: Mapping[Cell, int], rules: Rules, round_to: int) -> list[Cell]:
    """The cells whose change since then may be that of too few operators."""
    compared = {cell for cell in {*other.shown, *values} if (cell.unit, cell.figure) in other.figures}
    changes = {
        cell: rounded(values.get(cell, 0), round_to) - other.shown.get(cell, 0)
        for cell in compared
        if cell not in other.hidden
    }
    found = []
    for cell, change in changes.items():
        operators = changes.get(Cell(Unit.OPERATOR, cell.figure, cell.key), 0)
        if change and min(abs(change), abs(operators)) < rules.min_count:
            found.append(cell)
    return found


class _Other:
    """An earlier release as cells, and the attacks on both that suppose a change in one direction."""

    def __init__(self, release: Release, cells: Cells, links: frozenset[str]) -> None:
        self.shown: dict[Cell, int] = {}
        self.hidden: set[Cell] = set()
        self.round_to = release.method.round_to
        self.rules = release.method.rules
        definitions = {figure.id: figure.definition for figure in cells.figures}
        self.figures = {(unit, COVERAGE) for unit in UNITS}
        for figure in release.figures:
            name, unit, kind = figure.definition.id, figure.unit, figure.kind
            if name not in definitions or unit not in UNITS:
                continue
            self.figures.add((unit, name))
            self._add(Cell(unit, COVERAGE, ATTEMPTED), figure.attempted)
            self._add(Cell(unit, COVERAGE, (kind,)), figure.measured)
            for reason, count in figure.not_measured.items():
                self._add(Cell(unit, COVERAGE, (f"not {kind}", reason)), count)
            for row in figure.rows:
                self._add(Cell(unit, name, row.key), row.count)
        listed = [*self.shown, *self.hidden]
        released = {cell.unit for cell in listed}
        self.figures = {(unit, name) for unit, name in self.figures if unit in released}
        ties = relations(listed, definitions, links)
        ties = [tie for tie in ties if tie.certain and (self.round_to > 1 or holds(tie, self.shown))]
        self.ties = [_renamed(tie) for tie in (*ties, *backed(listed, self.shown, self.rules.min_count))]

    def _add(self, cell: Cell, count: int | None) -> None:
        if count is None:
            self.hidden.add(cell)
        elif count:
            self.shown[cell] = count

    def narrowed(
        self,
        values: Mapping[Cell, int],
        shown: Collection[Cell],
        ties: Sequence[Relation],
        rules: Rules,
        round_to: int,
    ) -> list[Cell]:
        """Cells of the new release that are narrowed, or whose figure narrows a cell of the old one."""
        known = {cell: _interval(rounded(values[cell], round_to), round_to) for cell in shown}
        known |= {_earlier(cell): _interval(count, self.round_to) for cell, count in self.shown.items()}
        hidden = [cell for cell in values if cell not in shown]
        promised = {cell: rules.width(values[cell]) for cell in hidden}
        promised |= {_earlier(cell): self.rules.min_count for cell in self.hidden}
        listed = [*values, *map(_earlier, [*self.shown, *self.hidden])]
        found: dict[Cell, None] = {}
        for grown in (True, False):
            supposed = [*ties, *self.ties, *self._direction(values, known, grown=grown)]
            supposed += backed(values, shown, rules.min_count)
            attack = Attack(listed, known, supposed, {})
            if attack.look(promised):
                found |= {_later(cell): None for cell, width in promised.items() if attack.narrow(cell, width)}
        units = {cell.unit for cell in values}
        return [cell for cell in found if cell.unit in units]

    def _direction(
        self, values: Mapping[Cell, int], known: Mapping[Cell, tuple[int, int]], *, grown: bool
    ) -> list[Relation]:
        """No cell is smaller than it was, or none is larger, of the figures where that can be."""
        units = {cell.unit for cell in values}
        mine = {cell for cell in {*self.shown, *self.hidden} if cell.unit in units}
        theirs = {cell for cell in values if (cell.unit, cell.figure) in self.figures}
        found = {}
        contradicted = set()
        for cell in sorted(mine | theirs):
            terms = [(cell, 1)] if cell in theirs else []
            terms += [(_earlier(cell), -1)] if cell in mine else []
            relation = Relation(tuple(terms), 0, None) if grown else Relation(tuple(terms), None, 0)
            if _possible(relation, known):
                found[cell] = relation
            elif cell.figure != COVERAGE:
                contradicted.add((cell.unit, cell.figure))
        return [tie for cell, tie in found.items() if (cell.unit, cell.figure) not in contradicted]


def _possible(relation: Relation, known: Mapping[Cell, tuple[int, int]]) -> bool:
    """Whether cells within their bounds can obey a relation; a cell that is listed has somebody in it."""
    ends = [sorted(factor * end for end in known.get(cell, (1, math.inf))) for cell, factor in relation.terms]
    low, high = sum(end[0] for end in ends), sum(end[1] for end in ends)
    return (relation.low is None or high >= relation.low) and (relation.high is None or low <= relation.high)


_MARK = "earlier "


def _earlier(cell: Cell) -> Cell:
    """The cell of the earlier release."""
    return cell._replace(figure=_MARK + cell.figure)


def _later(cell: Cell) -> Cell:
    return cell._replace(figure=cell.figure.removeprefix(_MARK))


def _renamed(tie: Relation) -> Relation:
    return tie._replace(terms=tuple((_earlier(cell), factor) for cell, factor in tie.terms))


def _interval(count: int, base: int) -> tuple[int, int]:
    """What a number that may be rounded stands for."""
    return max(0, count - base // 2), count + (base - 1) // 2
