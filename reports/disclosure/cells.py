"""Every number of a report that may leave as a cell, with the operators that contribute to it.

A figure whose contributions are not known, or whose ties to others are not in `reports.disclosure.relations`, is
withheld whole: `LINKED` lists those that are not. So a new figure is safe before anybody has thought of it.

`any` never leaves where it differs from `count`: it lies between that and the count with the mixed row added, which
a reader can compute. Endpoints and addresses never leave: they are nearly MX hosts, and two numbers for nearly the
same thing serve those who subtract.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from reports.definitions import MIXED, Definition, Source, Unit
from reports.disclosure.rules import COALITION, UNKNOWN, Contribution, RefusedError, contribution
from reports.figures import Figure, Key, Number, Report, common_reason, reason_of
from reports.roles import CARRIES
from scanner.records import EkuClass, Reason, Role, Routing, Status
from storage.contributions import Numbers, Part
from storage.profiles import FACTS, Profile
from storage.temporary import NO_ADDRESS, NOT_ENROLLED

COVERAGE = "coverage"
ATTEMPTED: Key = ("attempted",)

LINKED = (
    "routing",
    "outcome",
    "eku",
    "hierarchy",
    "eku_by_hierarchy",
    "programs",
    "client_auth",
    "eku_by_client_auth",
    "issuers",
    "exposure",
    "exposure_by_program",
    "validity",
    "key_types",
    "tls_versions",
    "software",
    "software_by_eku",
    "client_need",
)
"""Figures whose ties to one another are known."""

UNITS = (Unit.CERTIFICATE, Unit.MX_HOST, Unit.DOMAIN, Unit.OPERATOR, Unit.WEIGHT)
"""Units whose ties to one another are known."""

KINDS: Mapping[Source, str] = {
    Source.PROFILE: "measured",
    Source.TESTED: "tested",
    Source.ROUTING: "routed",
    Source.CLIENT_NEED: "measured",
}
"""What the coverage of a figure counts, by its source; figures of other sources are withheld."""

OF_CERTIFICATES = frozenset(
    {"eku", "hierarchy", "programs", "ca_owner", "key_type", "key_bits", "validity", "exposure"}
)
"""Facts that a certificate has only one of, whoever presents it."""

_STATUSES: Mapping[str, frozenset[str]] = {
    "measured": frozenset({Status.MEASURED.value}),
    "tested": frozenset({Status.MEASURED.value, Status.FAILED.value}),
}
_STATUS = FACTS.index("status")
_EKU = FACTS.index("eku")
_CLASSES = frozenset(EkuClass)
_NOBODY_LOOKED = ("unknown", "unknown")
_OWN = frozenset({*Routing, "no-address", "unresolved", "attempted", "routed"})
"""Coverage of domains that have no operator."""


class Cell(NamedTuple):
    """One number: the count of a row, or one of the coverage, whose figure is `COVERAGE`.

    Keys of coverage are `("attempted",)`, `("measured",)`, and `("not measured", reason)`; likewise for `tested`
    and `routed`. Only cells with somebody in them are listed.
    """

    unit: Unit
    figure: str
    key: Key

    @property
    def total(self) -> bool:
        """Whether it is what the rows of figures are shares of."""
        return self.figure == COVERAGE and self.key in (("measured",), ("routed",))


class Parts(Protocol):
    """What `storage.contributions.Contributions` gives."""

    def parts(self, unit: str) -> Iterable[Part]:
        """Every part of the units of a kind."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The numbers of a report that can be judged, who is behind them, and the figures that cannot be judged."""

    figures: tuple[Figure, ...]
    values: dict[Cell, int]
    behind: dict[Cell, Contribution]
    withheld: dict[tuple[str, Unit], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passed:
    """What passed disclosure control: the cells shown of those listed, and the units of which nothing is listed."""

    shown: frozenset[Cell]
    listed: frozenset[Cell]
    dropped: frozenset[Unit]


def single(unit: Unit, definition: Definition) -> bool:
    """Whether a unit can have one key only, so that `any` is `count` and nothing is mixed."""
    of_one = unit is Unit.CERTIFICATE and OF_CERTIFICATES.issuperset(definition.keys)
    return of_one or definition.source in (Source.ROUTING, Source.CLIENT_NEED)


def key_of(definition: Definition) -> Callable[[Profile], Key]:
    """The key of a figure in a profile; of `client_need` as far as a census of servers alone can tell."""
    if definition.source is Source.CLIENT_NEED:
        return lambda profile: (carries(profile[_EKU]), *_NOBODY_LOOKED)
    places = [FACTS.index(name) for name in definition.keys]
    return lambda profile: tuple(profile[at] for at in places)


def carries(eku: str) -> str:
    """Whether a certificate of this class carries clientAuth."""
    return CARRIES[EkuClass(eku)] if eku in _CLASSES else eku


def cells(report: Report, source: Parts, profiles: Mapping[int, Profile]) -> Cells:
    """Judge nothing yet: name every cell of the report, its value, and who is behind it.

    Raises `RefusedError` for estimates, and for certificates that somebody else saw: their figures measure
    different units, and nobody has written down how these are tied.
    """
    if report.sample is not None:
        raise RefusedError("refused: a sample gives estimates, and only counts can be judged")
    if any(profile[_STATUS] not in {*Status, ""} for profile in profiles.values()):
        raise RefusedError("refused: the scan has certificates that were imported, and only its own can be judged")
    kept: list[Figure] = []
    withheld: dict[tuple[str, Unit], str] = {}
    certificates = report.figure("eku", Unit.CERTIFICATE)
    for figure in report.figures:
        why = _why_withheld(figure, certificates)
        if why:
            withheld[figure.name, figure.unit] = why
        else:
            kept.append(figure)
    found = Cells(tuple(kept), {}, {}, withheld)
    for figure in kept:
        found.values.update({cell: int(value) for cell, value in figure_cells(figure).items() if value})
    for unit in dict.fromkeys(figure.unit for figure in kept):
        mine = [figure for figure in kept if figure.unit is unit]
        found.behind.update(_behind(unit, mine, source, profiles, found.values))
    return found


def figure_cells(figure: Figure) -> dict[Cell, Number]:
    """The cells of a figure and of its coverage."""
    unit, kind, coverage = figure.unit, KINDS[figure.definition.source], figure.coverage
    found: dict[Cell, Number] = {Cell(unit, figure.id, row.key): row.count for row in figure.rows}
    found[Cell(unit, COVERAGE, ATTEMPTED)] = coverage.attempted
    found[Cell(unit, COVERAGE, (kind,))] = coverage.measured
    for reason, count in coverage.not_measured.items():
        found[Cell(unit, COVERAGE, (f"not {kind}", reason))] = count
    return found


def _why_withheld(figure: Figure, certificates: Figure | None) -> str | None:
    if figure.unit not in UNITS:
        return "its unit adds little to MX hosts, and much to what can be computed"
    if figure.id == "client_need":
        # Only where it says of the certificates of servers what they say themselves, and nothing of who was seen.
        same = certificates is not None and certificates.coverage == figure.coverage
        if not same or any(row.key[1:] != _NOBODY_LOOKED for row in figure.rows):
            return "it counts certificates that others presented too, and who is behind these is not known"
    elif figure.role is not Role.SERVER or figure.id not in LINKED or figure.definition.source not in KINDS:
        return "who contributes to its cells, or what ties it to other figures, is not known"
    if not all(float(number).is_integer() for number in figure_cells(figure).values()):
        return "its weights are not whole numbers"
    return None


# ------------------------------------------------------------------------------------- who is behind a cell


Amounts = dict[Cell, dict[int, Number]]


def _behind(
    unit: Unit,
    figures: Iterable[Figure],
    source: Parts,
    profiles: Mapping[int, Profile],
    values: Mapping[Cell, int],
) -> dict[Cell, Contribution]:
    parts = list(source.parts(Unit.DOMAIN if unit is Unit.WEIGHT else unit))
    found: dict[Cell, Contribution] = {}
    kinds: set[str] = set()
    for figure in figures:
        if figure.definition.source is Source.ROUTING:
            continue  # domains speak for themselves there
        kind = KINDS[figure.definition.source]
        touched = _row_cells(figure, profiles, _STATUSES[kind])
        found.update(_reduce(_sum(parts, unit, touched)))
        if kind not in kinds:
            kinds.add(kind)
            found.update(_reduce(_sum(parts, unit, _coverage_cells(unit, kind, profiles))))
    for cell, value in values.items():
        if cell.unit is unit and cell not in found:
            # Domains without endpoints speak for themselves; of anything else nothing is known.
            own = unit is Unit.DOMAIN and (cell.figure == "routing" or cell.key[-1] in _OWN)
            found[cell] = Contribution(value, (1,) * min(value, COALITION + 1)) if own else UNKNOWN
    return found


Touched = Callable[[Part], Iterable[Cell]]


def _row_cells(figure: Figure, profiles: Mapping[int, Profile], statuses: frozenset[str]) -> Touched:
    """What a part contributes to in the rows of a figure: nothing through endpoints that do not count."""
    of = key_of(figure.definition)
    keys = {number: of(profile) for number, profile in profiles.items() if profile[_STATUS] in statuses}
    keys = {number: key for number, key in keys.items() if "" not in key}  # such a fact does not apply
    mixed = (MIXED,) * len(figure.definition.keys)
    known: dict[tuple[Numbers, Numbers], tuple[Cell, ...]] = {}

    def touched(part: Part) -> tuple[Cell, ...]:
        if (part.own, part.every) not in known:
            own = {keys[number] for number in part.own if number in keys}
            every = {keys[number] for number in part.every if number in keys}
            row = next(iter(every)) if len(every) == 1 else mixed
            known[part.own, part.every] = (Cell(figure.unit, figure.id, row),) if own else ()
        return known[part.own, part.every]

    return touched


def _coverage_cells(unit: Unit, kind: str, profiles: Mapping[int, Profile]) -> Touched:
    """What a part contributes to in the coverage."""
    counted = {number for number, profile in profiles.items() if profile[_STATUS] in _STATUSES[kind]}
    reasons = {number: reason_of(dict(zip(FACTS, profile, strict=True))) for number, profile in profiles.items()}
    reasons |= {NO_ADDRESS: "no-address", NOT_ENROLLED: Reason.INTERRUPTED.value}
    attempted, measured = Cell(unit, COVERAGE, ATTEMPTED), Cell(unit, COVERAGE, (kind,))

    def touched(part: Part) -> tuple[Cell, ...]:
        if counted.isdisjoint(part.every):
            return attempted, Cell(unit, COVERAGE, (f"not {kind}", common_reason(part.every, reasons)))
        return (attempted,) if counted.isdisjoint(part.own) else (attempted, measured)

    return touched


def _sum(parts: Iterable[Part], unit: Unit, touched: Touched) -> Amounts:
    amounts: Amounts = defaultdict(lambda: defaultdict(int))
    for part in parts:
        amount = part.weight if unit is Unit.WEIGHT else part.count
        for cell in touched(part):
            amounts[cell][part.operator] += amount
    return amounts


def _reduce(amounts: Amounts) -> dict[Cell, Contribution]:
    return {cell: contribution(by_operator.values()) for cell, by_operator in amounts.items()}
