"""What ties the cells of a report together: everything that an attacker can compute with.

    rows add up to what was measured, and coverage to what was attempted
    a figure of two keys adds up to the figures of one; programs and CA owners add up to classes of hierarchies
    no more operators than MX hosts have a key
    what was not measured is an outcome; what was not routed is a routing

Ties that hold by definition are always there. Those that hold for what a scan can store are kept where the numbers
at hand obey them (`holds`): a further tie narrows the attacker's intervals, so keeping one is the careful side.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from reports.definitions import DEFINITIONS, MIXED, Definition, Unit
from reports.disclosure.cells import ATTEMPTED, COVERAGE, KINDS, Cell, carries, key_of, single
from reports.figures import Key
from scanner.records import NOT_AFFECTED, ClientAuth, EkuClass, Hierarchy, Routing, Stage
from storage.facts import UNCLASSIFIED
from storage.profiles import Profile


class Relation(NamedTuple):
    """`low` <= sum of coefficient x cell <= `high`; None for no bound. A tie that is not certain holds mostly."""

    terms: tuple[tuple[Cell, int], ...]
    low: int | None
    high: int | None
    certain: bool = True


class Rows(NamedTuple):
    """One figure in one unit by its keys; `mixed` is None where there is no such row."""

    unit: Unit
    figure: str
    definition: Definition | None
    keys: tuple[Key, ...]
    mixed: Cell | None
    single: bool

    def cell(self, key: Key) -> Cell:
        """The cell of the units that have this key only."""
        return Cell(self.unit, self.figure, key)


def relations(
    listed: Iterable[Cell], definitions: Mapping[str, Definition], links: frozenset[str]
) -> list[Relation]:
    """Every tie among the cells of a report, and latent cells (of figures that no report has).

    `links` are those of `LATENT` that hold for the scan.
    """
    cells = list(listed)
    coverage = {cell for cell in cells if cell.figure == COVERAGE}
    figures = _rows(cells, definitions)
    found: list[Relation] = []
    for rows in figures.values():
        found += _within(rows, coverage)
    for unit in dict.fromkeys(cell.unit for cell in cells):
        mine = {rows.figure: rows for rows in figures.values() if rows.unit is unit}
        found += _between(mine)
        found += _latent(mine, links, coverage)
        found += _implied(mine)
        found += _coverage(unit, mine, coverage)
    found += _across(figures, coverage)
    return list(dict.fromkeys(found))


def holds(relation: Relation, values: Mapping[Cell, int]) -> bool:
    """Whether known values obey a relation; one with a latent cell is taken to hold."""
    if any(cell not in values for cell, _ in relation.terms):
        return True
    total = sum(factor * values[cell] for cell, factor in relation.terms)
    return (relation.low is None or total >= relation.low) and (relation.high is None or total <= relation.high)


def _rows(cells: Sequence[Cell], definitions: Mapping[str, Definition]) -> dict[tuple[Unit, str], Rows]:
    keys: dict[tuple[Unit, str], dict[Key, None]] = defaultdict(dict)
    for cell in cells:
        if cell.figure != COVERAGE:
            keys[cell.unit, cell.figure].setdefault(cell.key)
    found = {}
    for (unit, name), seen in keys.items():
        mixed = next((key for key in seen if key[0] == MIXED), None)
        found[unit, name] = Rows(
            unit,
            name,
            definitions[name],
            tuple(key for key in seen if key[0] != MIXED),
            None if mixed is None else Cell(unit, name, mixed),
            single(unit, definitions[name]),
        )
    return found


# ------------------------------------------------------------------------------------------------ one figure


def _equal(left: Iterable[Cell], right: Iterable[Cell]) -> Relation:
    return Relation(_terms(left, right), 0, 0)


def _likely(left: Iterable[Cell], right: Iterable[Cell]) -> Relation:
    return Relation(_terms(left, right), 0, 0, certain=False)


def _at_most(left: Iterable[Cell], right: Iterable[Cell]) -> Relation:
    return Relation(_terms(left, right), None, 0)


def _terms(left: Iterable[Cell], right: Iterable[Cell]) -> tuple[tuple[Cell, int], ...]:
    sums: dict[Cell, int] = defaultdict(int)
    for cell in left:
        sums[cell] += 1
    for cell in right:
        sums[cell] -= 1
    return tuple((cell, factor) for cell, factor in sums.items() if factor)


def _within(rows: Rows, coverage: set[Cell]) -> Iterator[Relation]:
    """A figure's own rows."""
    kind = KINDS[rows.definition.source] if rows.definition else "measured"
    total = Cell(rows.unit, COVERAGE, (kind,))
    mixed = [rows.mixed] if rows.mixed else []
    counts = [rows.cell(key) for key in rows.keys]
    if total in coverage:
        yield _equal([*counts, *mixed], [total])


# --------------------------------------------------------------------------------------- figures of one unit


def _refined(fine: Rows, coarse: Rows, of: Callable[[Key], Key]) -> Iterator[Relation]:
    """Each key of `fine` belongs to one of `coarse`."""
    groups: dict[Key, list[Cell]] = {key: [] for key in coarse.keys}
    for key in fine.keys:
        groups.setdefault(of(key), []).append(fine.cell(key))
    for key, members in groups.items():
        whole = [coarse.cell(key)] if key in coarse.keys else []
        yield _at_most(members, whole)
        # Several of the members in one unit make it mixed; where there is one only, it is all.
        if (fine.single and coarse.single) or len(members) < 2:
            yield _equal(members, whole) if fine.single and coarse.single else _likely(members, whole)
    if fine.mixed and coarse.mixed:
        yield _at_most([coarse.mixed], [fine.mixed])


def _between(mine: Mapping[str, Rows]) -> Iterator[Relation]:
    """Figures whose key fields are among those of another."""
    for fine in mine.values():
        for coarse in mine.values():
            if fine.definition is None or coarse.definition is None or fine.figure == coarse.figure:
                continue
            names, wanted = fine.definition.keys, coarse.definition.keys
            if fine.definition.source is coarse.definition.source and set(wanted) < set(names):
                places = [names.index(name) for name in wanted]
                yield from _refined(fine, coarse, lambda key, places=places: tuple(key[at] for at in places))  # type: ignore[misc]  # mypy cannot infer a default argument's type


OWNED = "owned"
_HAS_OWNER = frozenset(
    {
        Hierarchy.PUBLIC_CHROME,
        Hierarchy.PUBLIC_NOT_CHROME,
        Hierarchy.PUBLIC_PURPOSE_UNKNOWN,
        Hierarchy.PUBLIC_OTHER_PURPOSE,
        Hierarchy.DISTRUSTED,
    }
)
_OWNERLESS = frozenset({*Hierarchy, UNCLASSIFIED}) - _HAS_OWNER
_TRUSTING = {Hierarchy.PUBLIC_CHROME: "chrome", Hierarchy.PUBLIC_NOT_CHROME: "another", UNCLASSIFIED: UNCLASSIFIED}


def trusted(hierarchy: str) -> str:
    """What a hierarchy says of the programs that trust it for servers."""
    return _TRUSTING.get(hierarchy, "none")


def trusting(programs: str) -> str:
    """The same, told from the programs."""
    if programs in ("none", UNCLASSIFIED):
        return programs
    return "chrome" if "chrome" in programs.split("+") else "another"


def owned(hierarchy: str) -> str:
    """What a hierarchy says of the CA owner: its own class where there is none."""
    return hierarchy if hierarchy in _OWNERLESS else OWNED


def owner(name: str) -> str:
    """The same, told from the CA owner."""
    return name if name in _OWNERLESS else OWNED


def affected(eku: str, hierarchy: str) -> str:
    """Whether a certificate of this class and hierarchy has an end of its exposure: public, and for both roles."""
    if hierarchy == UNCLASSIFIED:
        return UNCLASSIFIED
    return AFFECTED if eku == EkuClass.SERVER_AND_CLIENT and hierarchy in _PUBLIC else NOT_AFFECTED


def exposed(exposure: str) -> str:
    """The same, told from the exposure."""
    return exposure if exposure in (NOT_AFFECTED, UNCLASSIFIED) else AFFECTED


AFFECTED = "affected"
_PUBLIC = frozenset({Hierarchy.PUBLIC_CHROME, Hierarchy.PUBLIC_NOT_CHROME, Hierarchy.PUBLIC_PURPOSE_UNKNOWN})

LATENT: Mapping[str, tuple[tuple[str, Callable[..., str]], ...]] = {
    "trust class": (("hierarchy", trusted), ("programs", trusting)),
    "owner class": (("hierarchy", owned), ("issuers", owner)),
    "need class": (("eku", carries), ("client_need", lambda carrying, _presented, _required: carrying)),
    "affected class": (("eku_by_hierarchy", affected), ("exposure", exposed)),
    "affected trust class": (
        ("eku_by_hierarchy", lambda eku, hierarchy: f"{affected(eku, hierarchy)} {trusted(hierarchy)}"),
        ("exposure_by_program", lambda exposure, programs: f"{exposed(exposure)} {trusting(programs)}"),
    ),
}
"""Figures that no report has, and the figures that refine them: by the fields of their keys."""


def links(profiles: Mapping[int, Profile]) -> frozenset[str]:
    """The latent figures that the profiles of a scan obey."""
    found = set()
    for name, refiners in LATENT.items():
        told = [
            [of(*key) if key[0] else "" for key in map(key_of(_DEFINED[figure]), profiles.values())]
            for figure, of in refiners
        ]
        if all(len(set(names)) == 1 for names in zip(*told, strict=True)):
            found.add(name)
    return frozenset(found)


_DEFINED = {definition.id: definition for definition in DEFINITIONS}


def _latent(mine: Mapping[str, Rows], known: frozenset[str], coverage: set[Cell]) -> Iterator[Relation]:
    for name in sorted(known):
        refiners = [(mine[figure], of) for figure, of in LATENT[name] if figure in mine]
        if len(refiners) < 2:
            continue
        classes = dict.fromkeys((of(*key),) for rows, of in refiners for key in rows.keys)
        first = refiners[0][0]
        mixed = None if first.single else Cell(first.unit, name, (MIXED,))
        middle = Rows(first.unit, name, None, tuple(classes), mixed, first.single)
        yield from _within(middle, coverage)
        for rows, of in refiners:
            yield from _refined(rows, middle, lambda key, of=of: (of(*key),))  # type: ignore[misc]  # mypy cannot infer a default argument's type


Some = tuple[str, Callable[[Key], bool]]
"""Rows of a figure: those whose key is so."""

_UNREADABLE: Some = ("hierarchy", lambda key: key[0] == Hierarchy.UNPARSABLE)
_EXPOSED: Some = ("exposure", lambda key: exposed(key[0]) == AFFECTED)
_SPARED: Some = ("exposure", lambda key: exposed(key[0]) != AFFECTED)
_ROLES = frozenset({EkuClass.SERVER_AND_CLIENT})

IMPLIED: tuple[tuple[Some, Some], ...] = (
    (_UNREADABLE, ("eku", lambda key: key[0] == EkuClass.UNPARSABLE)),
    (_UNREADABLE, ("key_types", lambda key: key == ("unknown", "unknown"))),
    (_UNREADABLE, ("validity", lambda key: key[0] == "unknown")),
    (_EXPOSED, ("eku", lambda key: key[0] in _ROLES)),
    (_EXPOSED, ("hierarchy", lambda key: key[0] in _PUBLIC)),
    (_EXPOSED, ("issuers", lambda key: owner(key[0]) == OWNED)),
    (("eku", lambda key: key[0] not in (*_ROLES, UNCLASSIFIED)), _SPARED),
    (("hierarchy", lambda key: key[0] not in (*_PUBLIC, UNCLASSIFIED)), _SPARED),
)
"""Whatever has one of these keys of one figure only has one of those of another, or several of those."""

_LATE = (Stage.HANDSHAKE.value, Stage.EHLO_AFTER_TLS.value)
_BROKEN = (ClientAuth.REQUIRED.value, ClientAuth.REQUESTED_UNKNOWN.value, ClientAuth.UNTESTED.value)


def _implied(mine: Mapping[str, Rows]) -> Iterator[Relation]:
    for (left, some), (right, others) in IMPLIED:
        if left in mine and right in mine:
            having = [mine[left].cell(key) for key in mine[left].keys if some(key)]
            allowed = [mine[right].cell(key) for key in mine[right].keys if others(key)]
            both = mine[right].mixed
            if both and len(allowed) > 1:  # several of the keys allowed make a unit mixed
                allowed.append(both)
            if having and allowed:
                yield _at_most(having, allowed)
    asked, outcome = mine.get("client_auth"), mine.get("outcome")
    if asked is not None and outcome is not None:
        mixed = [outcome.mixed] if outcome.mixed else []
        ended = [outcome.cell(key) for key in outcome.keys if key[0] in _LATE and key[1] != "none"] + mixed
        well = [outcome.cell(key) for key in outcome.keys if key[1] == "none"] + mixed
        yield _at_most([asked.cell(key) for key in asked.keys if key[0] in _BROKEN], ended)
        yield _at_most([asked.cell(key) for key in asked.keys if key[0] == ClientAuth.REQUESTED], well)


# -------------------------------------------------------------------------------------------------- coverage


def _coverage(unit: Unit, mine: Mapping[str, Rows], coverage: set[Cell]) -> Iterator[Relation]:
    attempted = Cell(unit, COVERAGE, ATTEMPTED)
    missing: dict[str, dict[str, Cell]] = {kind: {} for kind in KINDS.values()}
    for cell in sorted(cell for cell in coverage if cell.unit is unit and len(cell.key) == 2):
        missing[cell.key[0].removeprefix("not ")][cell.key[1]] = cell
    for kind, reasons in missing.items():
        total = Cell(unit, COVERAGE, (kind,))
        if total in coverage:
            yield _equal([total, *reasons.values()], [attempted])
    measured, tested = missing["measured"], missing["tested"]
    if all(Cell(unit, COVERAGE, (kind,)) in coverage for kind in ("measured", "tested")):
        yield _at_most([Cell(unit, COVERAGE, ("measured",))], [Cell(unit, COVERAGE, ("tested",))])
    for reason in {**measured, **tested}:
        both = [[reasons[reason]] if reason in reasons else [] for reasons in (measured, tested)]
        if "tested" in {cell.key[0] for cell in coverage if cell.unit is unit} and "/" not in reason:
            yield _at_most(both[1], both[0]) if reason == MIXED else _equal(*both)
    if "outcome" in mine:
        yield from _lost(mine["outcome"], measured)
    if "routing" in mine:
        routes = mine["routing"]
        for way in (Routing.NULL_MX.value, Routing.NONE.value, Routing.ERROR.value):
            lost = [reasons[way] for reasons in (measured,) if way in reasons]
            yield _equal([routes.cell((way,))] if (way,) in routes.keys else [], lost)


def _lost(outcome: Rows, measured: Mapping[str, Cell]) -> Iterator[Relation]:
    """A unit that was not measured for one reason has that outcome; before the handshake nothing is measured."""
    for key in outcome.keys:
        reason = "/".join(key)
        lost = [measured[reason]] if reason in measured else []
        yield _at_most(lost, [outcome.cell(key)])
        if key[0] not in (*_LATE, Stage.QUIT.value):
            yield _likely(lost, [outcome.cell(key)])


# --------------------------------------------------------------------------------------------- between units


def _across(figures: Mapping[tuple[Unit, str], Rows], coverage: set[Cell]) -> Iterator[Relation]:
    """An operator has an MX host of its own, and one that has a key only has such a host."""
    for kind in ("measured", "tested"):
        totals = [Cell(unit, COVERAGE, (kind,)) for unit in (Unit.OPERATOR, Unit.MX_HOST)]
        if coverage.issuperset(totals):
            yield _at_most(totals[:1], totals[1:])
    for (unit, name), rows in figures.items():
        hosts = figures.get((Unit.MX_HOST, name))
        if unit is Unit.OPERATOR and hosts is not None:
            for key in rows.keys:
                yield _at_most([rows.cell(key)], [hosts.cell(key)] if key in hosts.keys else [])


def backed(values: Iterable[Cell], shown: Iterable[Cell], least: int) -> Iterator[Relation]:
    """A number that is shown has so many operators behind it: each has the key, alone or among others."""
    listed = set(values)
    operators = {cell.figure for cell in listed if cell.unit is Unit.OPERATOR and cell.figure != COVERAGE}
    for figure, key in dict.fromkeys((cell.figure, cell.key) for cell in shown if cell.figure in operators):
        mixed = Cell(Unit.OPERATOR, figure, (MIXED,) * len(key))
        terms = tuple(
            (cell, 1) for cell in dict.fromkeys((Cell(Unit.OPERATOR, figure, key), mixed)) if cell in listed
        )
        yield Relation(terms, least, None)
