"""Counts in, one frozen Report out; every renderer reads that and nothing else.

`count` is a partition: a unit counts in a row when all its measured endpoints agree on the whole key, else in the
row whose key fields are `mixed`. `any` counts units with at least one endpoint of the row; for the `mixed` row it
is the count. Rows sum to `coverage.measured`, and attempted = measured + all of not_measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from reports import software_matrix
from reports.amounts import AtLeast, total
from reports.definitions import (
    DEFINITIONS,
    MIXED,
    PRIVATE_HIGH,
    PRIVATE_LOW,
    Definition,
    Source,
    Unit,
    bias_of,
)
from reports.roles import CARRIES, CERTIFICATE_KEYS, Wording, wording
from scanner.records import EkuClass, PolicyRule, Reason, Role, Routing, ScanInfo, Status
from storage.counts import FAMILIES, REACH, Counts, Numbered, Tally
from storage.profiles import OPERATOR_REST
from storage.sampled import Stratum
from storage.sightings import HEARD, SIGHTED
from storage.temporary import NO_ADDRESS, NOT_ENROLLED

Key = tuple[str, ...]
Number = int | float
"""A number of units; a float for the unit `weight`, and one of `reports.amounts` where a sample tells it."""

FORMAT_VERSION = 1

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Part:
    """A count with its share of what was measured, None where nothing was."""

    count: Number
    share: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a figure; `share` is count / measured, unrounded."""

    key: Key
    count: Number
    any: Number
    share: float | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was attempted, what of it was measured, and why the rest was not."""

    attempted: Number
    measured: Number
    not_measured: Mapping[str, Number]

    @property
    def bias(self) -> Mapping[str, Number]:
        """`not_measured` in the coarse classes of `reports.definitions.BIAS`, the largest first."""
        sums: dict[str, Number] = {}
        for reason, count in self.not_measured.items():
            name = bias_of(reason)
            sums[name] = sums.get(name, 0) + count
        return MappingProxyType(dict(sorted(sums.items(), key=lambda item: (-item[1], item[0]))))


@dataclass(frozen=True, slots=True)
class PrivateShare:
    """Private against public as a range: private + self-signed, and with undetermined added."""

    low: Part
    high: Part


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure in one unit and role: what is presented as a server, or as a client.

    `without_top_10` are the rows when the ten largest operators' endpoints are left out (headline figures), with
    the number then measured. `not_measurable` are the classes that the trust snapshot cannot show. `rules` are the
    dated policies behind the figure `exposure`.
    """

    definition: Definition
    unit: Unit
    coverage: Coverage
    rows: tuple[Row, ...]
    private_share: PrivateShare | None = None
    not_measurable: tuple[str, ...] = ()
    without_top_10: tuple[Number, tuple[Row, ...]] | None = None
    rules: tuple[PolicyRule, ...] = ()
    role: Role = Role.SERVER

    @property
    def wording(self) -> Wording:
        """Title, numerator, denominator and caveat in this role."""
        return wording(self.definition, self.role)

    @property
    def id(self) -> str:
        """The contract's name of the figure."""
        return self.definition.id

    @property
    def name(self) -> str:
        """The id, with `-client` where that is one of two roles: one word for links and files."""
        return self.id if self.role is Role.SERVER or not self.definition.units else f"{self.id}-{self.role}"

    def part(self, **wanted: str) -> Part:
        """The sum of the rows whose key fields have these values."""
        places = [(self.definition.keys.index(name), value) for name, value in wanted.items()]
        count = _total(row.count for row in self.rows if all(row.key[at] == value for at, value in places))
        return Part(count, _share(count, self.coverage.measured))


@dataclass(frozen=True, slots=True)
class TrustInfo:
    """What a report says of the trust snapshot; `not_measurable` are hierarchies that it cannot show."""

    id: str | None
    as_of: str | None = None
    not_measurable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """The sample behind a report: how many addresses were drawn, of how many, in which strata, and how it tells."""

    drawn: int
    of: int
    strata: tuple[Stratum, ...]
    method: str


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one scan; `weighted` tells whether the unit `weight` is among them.

    `clients` is the scan that the figures of role client are from, None where nobody looked at clients.
    With a `sample`, numbers are those of `reports.amounts`: estimates of what a census would count.
    """

    scan: ScanInfo
    trust: TrustInfo
    figures: tuple[Figure, ...]
    weighted: bool
    clients: int | None = None
    sample: SampleInfo | None = None

    def figure(self, name: str, unit: Unit, role: Role = Role.SERVER) -> Figure | None:
        """The figure of that id, unit and role."""
        return next((f for f in self.figures if (f.id, f.unit, f.role) == (name, unit, role)), None)

    @property
    def serves(self) -> bool:
        """Whether the census is of servers: False for one that looked at clients only."""
        asked = any(figure.coverage.attempted for figure in self.figures if figure.role is Role.SERVER)
        return asked or self.clients is None

    def sections(self) -> tuple[tuple[Figure, ...], ...]:
        """The figures that differ in their unit only, together: servers first.

        Servers that nobody asked about are left out where clients are what the census is of.
        """
        found: dict[tuple[Role, str], list[Figure]] = {}
        for figure in self.figures:
            found.setdefault((figure.role, figure.id), []).append(figure)
        return tuple(tuple(figures) for (role, _), figures in found.items() if role is Role.CLIENT or self.serves)


def trust_info(scan: ScanInfo) -> TrustInfo:
    """What the scan's own settings say of its snapshot: `trust: {"as_of": ..., "not_measurable": [...]}`."""
    stored = scan.settings.get("trust")
    facts: Mapping[str, object] = stored if isinstance(stored, Mapping) else {}
    classes = facts.get("not_measurable")
    as_of = facts.get("as_of")
    return TrustInfo(
        id=scan.trust_id,
        as_of=None if as_of is None else str(as_of),
        not_measurable=tuple(str(name) for name in classes) if isinstance(classes, list | tuple) else (),
    )


def build(
    counts: Counts,
    scan: ScanInfo,
    trust: TrustInfo | None = None,
    rules: Sequence[PolicyRule] = (),
    clients: tuple[Counts, int] | None = None,
) -> Report:
    """Compute every figure in every unit that the counts allow.

    `rules` are the dated policies, for reference. `clients` has the counts of role client, and the scan that they
    are of.
    """
    snapshot = trust or trust_info(scan)
    census = _Census(counts)
    figures = [
        _figure(census, definition, unit, snapshot, tuple(rules))
        for definition in DEFINITIONS
        for unit in definition.units
        if unit is not Unit.WEIGHT or counts.weighted
    ]
    seen = None if clients is None or not clients[0].weighted else clients
    figures += _client_figures(census, seen, snapshot)
    return Report(scan, snapshot, tuple(figures), counts.weighted, None if seen is None else seen[1])


def _client_figures(servers: "_Census", seen: tuple[Counts, int] | None, snapshot: TrustInfo) -> list[Figure]:
    """Role client; `client_need` joins both roles and is there even where nobody looked at clients."""
    clients = None if seen is None else _Census(seen[0])
    figures = []
    for definition in DEFINITIONS:
        for unit in definition.client_units:
            if definition.source is Source.CLIENT_NEED:
                figures.append(_client_need(servers.counts, definition, unit))
            elif clients is not None and (unit is not Unit.OPERATOR or clients.knows(unit)):
                figures.append(replace(_figure(clients, definition, unit, snapshot, ()), role=Role.CLIENT))
    return figures


# ------------------------------------------------------------------------------------------------- computing


Members = tuple[tuple[tuple[int, ...], Number], ...]
"""Units by the numbers of their members that count, and how many they are."""


class _Census:
    """The counts, with what several figures share computed once."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self._coverages: dict[tuple[Unit, frozenset[str]], Coverage] = {}
        self._members: dict[tuple[Unit, str, frozenset[int]], Members] = {}

    def members(self, unit: Unit, family: str, counted: frozenset[int]) -> Members:
        """Units with at least one number that counts; the others are not measured."""
        key = (unit, family, counted)
        if key not in self._members:
            self._members[key] = self._only(*key)
        return self._members[key]

    def _only(self, unit: Unit, family: str, keep: frozenset[int]) -> Members:
        found: dict[tuple[int, ...], Number] = {}
        for tally in self._tallies(unit, family):
            numbers = tuple(number for number in tally.numbers if number in keep)
            if numbers:
                _add(found, numbers, _amount(tally, unit))
        return tuple(found.items())

    def coverage(self, unit: Unit, statuses: frozenset[str]) -> Coverage:
        """Units with at least one endpoint of these statuses, and why the others have none."""
        if (unit, statuses) not in self._coverages:
            self._coverages[unit, statuses] = self._cover(unit, statuses)
        return self._coverages[unit, statuses]

    def _cover(self, unit: Unit, statuses: frozenset[str]) -> Coverage:
        facts = {number: dict(zip(FAMILIES[REACH], key, strict=True)) for number, key in self.facts(REACH).items()}
        reasons = {number: reason_of(values) for number, values in facts.items()}
        reasons |= {NO_ADDRESS: "no-address", NOT_ENROLLED: Reason.INTERRUPTED.value}
        counted = {number for number, values in facts.items() if values["status"] in statuses}
        measured: list[Number] = []
        missing: dict[str, Number] = {}
        for tally in self._tallies(unit, REACH):
            amount = _amount(tally, unit)
            if counted.isdisjoint(tally.numbers):
                _add(missing, common_reason(tally.numbers, reasons), amount)
            else:
                measured.append(amount)
        if unit is Unit.DOMAIN or (unit is Unit.WEIGHT and self.counts.weigh == Unit.DOMAIN):
            self._add_unrouted(missing, unit)
        not_measured = {reason: missing[reason] for reason in sorted(missing) if missing[reason]}
        total = _total(measured)
        return Coverage(_total([total, *not_measured.values()]), total, MappingProxyType(not_measured))

    def knows(self, unit: Unit) -> bool:
        """Whether there is any such unit."""
        return bool(self._tallies(unit, REACH))

    def facts(self, family: str) -> Numbered:
        """What the numbers of a family mean."""
        return self.counts.facts.get(family, {})

    def _tallies(self, unit: Unit, family: str) -> Sequence[Tally]:
        return self.counts.tallies.get((self.counts.weigh if unit is Unit.WEIGHT else unit, family), ())

    def _add_unrouted(self, missing: dict[str, Number], unit: Unit) -> None:
        """Domains without an MX set: their routing is the reason."""
        for (routing, has_set), amount in self.counts.routing.items():
            if not has_set:
                value = amount.weight if unit is Unit.WEIGHT else amount.count
                _add(missing, _UNROUTED.get(routing, routing or "unresolved"), value)


_TESTED = frozenset({Status.MEASURED.value, Status.FAILED.value})
_MEASURED = frozenset({Status.MEASURED.value})
_HEARD = _MEASURED | {HEARD}
_SEEN = _HEARD | {SIGHTED}
"""Of these the certificate is known, of `_HEARD` the TLS version too, and only `_MEASURED` answered us."""
_UNROUTED: Mapping[str | None, str] = MappingProxyType(
    {None: "unresolved", Routing.MX: "no-address", Routing.IMPLICIT_MX: "no-address"}
)


def _figure(
    census: _Census, definition: Definition, unit: Unit, trust: TrustInfo, rules: tuple[PolicyRule, ...]
) -> Figure:
    if definition.source is Source.ROUTING:
        return _routing(census.counts, definition, unit)
    if definition.source is Source.PRIVATE_SPREAD:
        return _ready_made(definition, unit, census.counts.private_spread, None)
    statuses = _statuses(definition)
    coverage = census.coverage(unit, statuses)
    if definition.source is Source.NAMES_PER_ADDRESS:
        return _ready_made(definition, unit, census.counts.names_per_address, coverage)
    rows = _rows(census, definition, unit, coverage.measured)
    return Figure(
        definition,
        unit,
        coverage,
        rows,
        private_share=_private_share(rows, coverage.measured) if definition.id == "hierarchy" else None,
        not_measurable=trust.not_measurable if "hierarchy" in definition.keys else (),
        without_top_10=_rows_without_top(census, definition, unit) if definition.headline else None,
        rules=rules if definition.id == "exposure" else (),
    )


def _statuses(definition: Definition) -> frozenset[str]:
    """Whom a figure measures."""
    if definition.source is Source.TESTED:
        return _TESTED
    if CERTIFICATE_KEYS.issuperset(definition.keys):
        return _SEEN
    return _HEARD if definition.keys == ("tls_version",) else _MEASURED


def _rows_without_top(census: _Census, definition: Definition, unit: Unit) -> tuple[Number, tuple[Row, ...]]:
    rows = _rows(census, definition, unit, None)
    return _total(row.count for row in rows), rows


def _rows(census: _Census, definition: Definition, unit: Unit, measured: Number | None) -> tuple[Row, ...]:
    """The rows out of `measured` units; with None those without the largest operators, out of what is left."""
    family = REACH if definition.source is Source.TESTED else _family(definition)
    names = FAMILIES[family]
    key_of = {number: _key(facts, names, definition) for number, facts in census.facts(family).items()}
    # A fact that is "" does not apply: what a server asks of clients, say, to a certificate that others saw.
    counted = {number for number, key in key_of.items() if "" not in key}
    if definition.source is Source.TESTED:
        counted = {number for number, facts in census.facts(REACH).items() if facts[0] in _TESTED}
    if measured is None:
        at = names.index("operators")
        counted &= {number for number, facts in census.facts(family).items() if facts[at] == OPERATOR_REST}
    mixed = (MIXED,) * len(definition.keys)
    counts: dict[Key, Number] = {}
    touched: dict[Key, Number] = {}
    for numbers, amount in census.members(unit, family, frozenset(counted)):
        keys = {key_of[number] for number in numbers}
        _add(counts, next(iter(keys)) if len(keys) == 1 else mixed, amount)
        for key in keys:
            _add(touched, key, amount)
    if mixed in counts:
        touched[mixed] = counts[mixed]
    return _sorted_rows(definition, counts, touched, _total(counts.values()) if measured is None else measured)


def _key(facts: tuple[str, ...], names: Sequence[str], definition: Definition) -> Key:
    """The key fields of one combination of facts; what its software was seen to do is looked up."""

    def value(name: str) -> str:
        if name in software_matrix.FACTS:
            software = facts[names.index("software")]
            return software_matrix.answers(name).get(software, software_matrix.NOT_SEEN) if software else ""
        return facts[names.index(name)]

    return tuple(map(value, definition.keys))


def _family(definition: Definition) -> str:
    """The family of facts that has all key fields of the figure, and the operators' rank where that is needed."""
    facts = {"software" if name in software_matrix.FACTS else name for name in definition.keys}
    wanted = facts | ({"operators"} if definition.headline else set())
    return next(family for family, names in FAMILIES.items() if wanted.issubset(names))


def _routing(counts: Counts, definition: Definition, unit: Unit) -> Figure:
    found: dict[Key, Number] = {}
    unresolved: Number = 0
    for (routing, _), amount in counts.routing.items():
        value = amount.weight if unit is Unit.WEIGHT else amount.count
        if routing is None:
            unresolved += value
        else:
            _add(found, (routing,), value)
    measured = _total(found.values())
    missing = {"unresolved": unresolved} if unresolved else {}
    coverage = Coverage(_total([measured, unresolved]), measured, MappingProxyType(missing))
    return Figure(definition, unit, coverage, _sorted_rows(definition, found, found, measured))


def _ready_made(
    definition: Definition, unit: Unit, counts: Mapping[str, float], coverage: Coverage | None
) -> Figure:
    found: dict[Key, Number] = {(name,): count for name, count in counts.items()}
    measured = _total(found.values())
    stated = coverage or Coverage(measured, measured, MappingProxyType({}))
    return Figure(definition, unit, stated, _sorted_rows(definition, found, found, measured))


def _client_need(counts: Counts, definition: Definition, unit: Unit) -> Figure:
    looked = any(seen for _, seen, _ in counts.client_need)
    found: dict[Key, Number] = {}
    for (eku, seen, required), count in counts.client_need.items():
        presented = ("yes" if seen else "no") if looked else "unknown"
        _add(found, (CARRIES[EkuClass(eku)], presented, _REQUIRED[required]), count)
    measured = _total(found.values())
    coverage = Coverage(measured, measured, MappingProxyType({}))
    rows = _sorted_rows(definition, found, found, measured)
    return Figure(definition, unit, coverage, rows, role=Role.CLIENT)


_REQUIRED = MappingProxyType({None: "unknown", True: "yes", False: "no"})


def _sorted_rows(
    definition: Definition, counts: Mapping[Key, Number], touched: Mapping[Key, Number], measured: Number
) -> tuple[Row, ...]:
    """In the definition's order, else by size or by key; the mixed row last."""
    places = {name: place for place, name in enumerate(definition.order)}

    def place(row: Row) -> tuple[bool, int, Number, Number, Key]:
        size = (0, 0) if definition.by_key else (-row.count, -row.any)
        return (row.key[0] == MIXED, places.get(row.key[0], len(places)), *size, row.key)

    rows = [Row(key, counts.get(key, 0), touched[key], _share(counts.get(key, 0), measured)) for key in touched]
    return tuple(sorted(rows, key=place))


def _private_share(rows: Iterable[Row], measured: Number) -> PrivateShare:
    by_class = {row.key[0]: row.count for row in rows}
    low, high = (_total(by_class.get(name, 0) for name in names) for names in (PRIVATE_LOW, PRIVATE_HIGH))
    return PrivateShare(Part(low, _share(low, measured)), Part(high, _share(high, measured)))


def reason_of(facts: Mapping[str, str]) -> str:
    """Why an endpoint with these facts was not measured."""
    if facts["status"] in (SIGHTED, HEARD):
        return "no-session"
    return facts["reason"] or f"{facts['stage']}/{facts['failure']}"


def common_reason(profiles: Iterable[int], reasons: Mapping[int, str]) -> str:
    """The reason that all endpoints of a unit share; hosts without an address say nothing beside others."""
    own = set(profiles)
    found = {reasons[profile] for profile in (own - {NO_ADDRESS} or own)}
    return found.pop() if len(found) == 1 else MIXED


def _amount(tally: Tally, unit: Unit) -> Number:
    return tally.weight if unit is Unit.WEIGHT else tally.count


def _add(sums: dict[_K, Number], key: _K, amount: Number) -> None:
    sums[key] = sums.get(key, 0) + amount


def _total(numbers: Iterable[Number]) -> Number:
    return total(list(numbers))


def _share(count: Number, measured: Number) -> float | None:
    if isinstance(measured, AtLeast):
        return None
    return count / measured if measured else None
