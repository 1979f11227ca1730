"""What changed between two scans, unit by unit: transitions, renewals, and what could not be matched. Pure.

A unit is matched when both scans measured it. Its state is what its measured endpoints agree on, `mixed` where they
do not; a transition counts the units that went from one state to another, those that stayed included, so that the
rows of a field sum to the units matched.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reports.definitions import MIXED, UNIT_TITLES, Unit
from reports.text import number, percent

Row = Mapping[str, Any]
UNITS = (Unit.ENDPOINT, Unit.MX_HOST, Unit.DOMAIN)
FIELDS = {"eku": "eku_class", "hierarchy": "hierarchy", "client_auth": "client_auth"}
"""Figure keys and the columns of `endpoints` rows that they are read from."""


@dataclass(frozen=True, slots=True)
class State:
    """What a unit presented: the value of each field, and its end entity certificates."""

    values: tuple[str, ...]
    certificates: frozenset[str]


Side = Mapping[Unit, Mapping[str, State]]


@dataclass(frozen=True, slots=True)
class Transition:
    """How many matched units went from one state of a field to another; `share` is of the units matched."""

    field: str
    before: str
    after: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class UnitChange:
    """One unit's account: matched, renewed (another set of certificates), and measured on one side only."""

    unit: Unit
    matched: int
    renewed: int
    only_before: int
    only_after: int
    transitions: tuple[Transition, ...]


def side(endpoints: Iterable[Row], domains: Iterable[Row]) -> Side:
    """The states of one scan's measured units, from its `endpoints` and `domains` rows."""
    by_endpoint: dict[str, list[Row]] = {}
    by_host: dict[str, list[Row]] = {}
    for row in endpoints:
        if row["status"] == "measured":
            by_endpoint[f"{row['mx_host']} {row['address']} {row['port']}"] = [row]
            by_host.setdefault(row["mx_host"], []).append(row)
    by_domain = {
        row["domain"]: found
        for row in domains
        if (found := [one for mx in row["mx"] for one in by_host.get(mx["host"], ())])
    }
    grouped = {Unit.ENDPOINT: by_endpoint, Unit.MX_HOST: by_host, Unit.DOMAIN: by_domain}
    return {unit: {key: _state(rows) for key, rows in found.items()} for unit, found in grouped.items()}


def compare(before: Side, after: Side) -> tuple[UnitChange, ...]:
    """The changes in every unit."""
    return tuple(_change(unit, before[unit], after[unit]) for unit in UNITS)


def document(changes: Iterable[UnitChange]) -> list[dict[str, object]]:
    """The changes as JSON values."""
    return [
        {
            "unit": change.unit.value,
            "matched": change.matched,
            "certificate_renewed": change.renewed,
            "only_before": change.only_before,
            "only_after": change.only_after,
            "transitions": [
                {"field": t.field, "before": t.before, "after": t.after, "count": t.count, "share": t.share}
                for t in change.transitions
            ],
        }
        for change in changes
    ]


def lines(changes: Iterable[UnitChange]) -> Iterable[str]:
    """The changes for people; what stayed as it was is left out."""
    for change in changes:
        renewed = percent(change.renewed / change.matched if change.matched else None)
        yield (
            f"{UNIT_TITLES[change.unit]}: {number(change.matched)} in both scans, "
            f"{number(change.renewed)} ({renewed}) with other certificates; "
            f"measured only before {number(change.only_before)}, only after {number(change.only_after)}"
        )
        for one in change.transitions:
            if one.before != one.after:
                yield f"  {one.field}: {one.before} -> {one.after}: {number(one.count)} ({percent(one.share)})"


def _state(rows: Iterable[Row]) -> State:
    found = list(rows)
    values = []
    for column in FIELDS.values():
        seen = {str(row[column]) for row in found}
        values.append(seen.pop() if len(seen) == 1 else MIXED)
    return State(tuple(values), frozenset(row["certificate"] for row in found))


def _change(unit: Unit, before: Mapping[str, State], after: Mapping[str, State]) -> UnitChange:
    matched = before.keys() & after.keys()
    counted = Counter(
        (field, before[key].values[at], after[key].values[at]) for key in matched for at, field in enumerate(FIELDS)
    )
    order = list(FIELDS)
    ranked = sorted(counted.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0]))
    return UnitChange(
        unit=unit,
        matched=len(matched),
        renewed=sum(before[key].certificates != after[key].certificates for key in matched),
        only_before=len(before.keys() - matched),
        only_after=len(after.keys() - matched),
        transitions=tuple(Transition(*key, count, count / len(matched)) for key, count in ranked),
    )
