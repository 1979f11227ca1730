"""A sample in, the Report that a census would have given out, as far as a sample can tell it.

Totals are Horvitz-Thompson estimates, with intervals from a bootstrap by operator (`reports.bootstrap`); figures
are projections of totals, so the same code computes them (`reports.figures`). A sample tells differently:

- attempted is known exactly, since all domains were resolved, though measured and the reasons are estimates;
- distinct certificates and their rows are lower bounds, without shares; what cannot even be that is left out;
- where the drawn addresses are a simple random sample of all, addresses have Wilson's intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from reports import figures
from reports.amounts import AtLeast, Estimate, total, wilson
from reports.bootstrap import REPLICATES, factors, inclusion_probability
from reports.definitions import Source, Unit
from reports.figures import Figure, Number, Report, Row, SampleInfo, TrustInfo
from scanner.records import PolicyRule, Role, ScanInfo
from storage.counts import Counts, Tally
from storage.sampled import Clusters, SampleCounts

OF_THE_CERTIFICATE = frozenset(
    {"eku", "hierarchy", "programs", "ca_owner", "validity", "key_type", "key_bits", "exposure"}
)
"""Facts that a certificate has whoever presents it: their rows can only grow with what is outside the sample."""

METHOD = (
    "Horvitz-Thompson totals of a stratified sample of operators with all their addresses (large operators: of "
    f"addresses); intervals at 95 % by a rescaling bootstrap by operator, {REPLICATES} replicates; distinct "
    "certificates are lower bounds."
)
METHOD_SIMPLE = f"{METHOD} The addresses are a simple random sample: their intervals are Wilson's."


def build(
    counts: SampleCounts,
    scan: ScanInfo,
    trust: TrustInfo | None = None,
    rules: Sequence[PolicyRule] = (),
    clients: tuple[Counts, int] | None = None,
) -> Report:
    """Every figure that the sample can tell; what `clients` counted is no sample. Raises `NoEstimates`."""
    weights = _Weights(counts, scan.seed)
    told = figures.build(weights.counts(), scan, trust, rules, clients)
    simple = _is_simple(counts)
    kept = [_told(figure, counts, simple=simple) for figure in told.figures if _can_tell(figure)]
    strata = counts.sample.strata
    info = SampleInfo(
        len(counts.sample.addresses),
        sum(stratum.addresses for stratum in strata),
        strata,
        METHOD_SIMPLE if simple else METHOD,
    )
    return replace(told, figures=tuple(kept), sample=info)


class _Weights:
    """Makes of units in the sample what they stand for."""

    def __init__(self, counts: SampleCounts, seed: int) -> None:
        self._counts = counts
        self._strata = counts.sample.strata
        self._factors = factors(self._strata, counts.stratum_of, seed)

    def counts(self) -> Counts:
        """The counts of the sample as estimates of those of a census."""
        given = self._counts
        tallies = {(unit, family): self._tallies(unit, family) for unit, family in given.groups}
        names: dict[str, Number] = {}
        for (kind, clusters), count in given.names_per_address.items():
            names[kind] = names.get(kind, 0) + self._amount(count, clusters)
        return Counts(
            facts=given.facts,
            tallies=MappingProxyType(tallies),
            routing=given.routing,
            weighted=given.weighted,
            names_per_address=MappingProxyType(names),
            private_spread=MappingProxyType({}),
            weigh=Unit.DOMAIN,
            client_need=MappingProxyType({}),
        )

    def _tallies(self, unit: str, family: str) -> tuple[Tally, ...]:
        found: dict[tuple[int, ...], tuple[Number, Number]] = {}
        for group in self._counts.groups[unit, family]:
            count, weight = found.get(group.numbers, (0, 0))
            if unit == Unit.CERTIFICATE:
                found[group.numbers] = (AtLeast(count + group.count), 0)
            else:
                found[group.numbers] = (
                    count + self._amount(group.count, group.clusters),
                    weight + self._amount(group.weight, group.clusters),
                )
        return tuple(Tally(numbers, *amounts) for numbers, amounts in sorted(found.items()))

    def _amount(self, number: Number, clusters: Clusters) -> Number:
        """What units in these clusters stand for; they stand for themselves where nothing was left to chance."""
        strata = [self._counts.stratum_of[cluster] for cluster in clusters]
        if not number or all(self._strata[at].drawn == self._strata[at].clusters for at in strata):
            return number
        weight = number / inclusion_probability(self._strata, strata)
        replicates: Any = weight * self._factors[list(clusters)].prod(axis=0)
        return Estimate(weight, replicates, weight, weight * weight)


def _can_tell(figure: Figure) -> bool:
    """Not what a larger sample would move from row to row; of certificates only their own facts."""
    if figure.definition.source in (Source.PRIVATE_SPREAD, Source.CLIENT_NEED):
        return False
    if figure.role is Role.CLIENT:
        return True
    return figure.unit is not Unit.CERTIFICATE or OF_THE_CERTIFICATE.issuperset(figure.definition.keys)


def _told(figure: Figure, counts: SampleCounts, *, simple: bool) -> Figure:
    """The figure with what is known exactly, and with Wilson's intervals where they hold."""
    if figure.role is Role.CLIENT:
        return figure
    if simple and figure.unit is Unit.ADDRESS:
        figure = replace(figure, rows=tuple(_simple(row, figure.coverage.measured, counts) for row in figure.rows))
    if figure.definition.source is Source.ROUTING or figure.unit is Unit.CERTIFICATE:
        return figure
    return replace(figure, coverage=replace(figure.coverage, attempted=_attempted(figure, counts)))


def _attempted(figure: Figure, counts: SampleCounts) -> Number:
    unit = Unit.DOMAIN if figure.unit is Unit.WEIGHT else figure.unit
    of_weight = figure.unit is Unit.WEIGHT
    unrouted: Mapping[tuple[str | None, bool], Any] = counts.routing if unit is Unit.DOMAIN else {}
    amounts = [counts.population[unit], *(amount for (_, has_set), amount in unrouted.items() if not has_set)]
    return total([amount.weight if of_weight else amount.count for amount in amounts])


def _is_simple(counts: SampleCounts) -> bool:
    """Whether the addresses are a simple random sample: one stratum, and every cluster of it one address."""
    strata = counts.sample.strata
    return len(strata) == 1 and strata[0].clusters == strata[0].addresses


def _simple(row: Row, measured: Number, counts: SampleCounts) -> Row:
    stratum = counts.sample.strata[0]
    fraction = stratum.drawn / stratum.clusters
    seen, of = round(row.count * fraction), round(measured * fraction)
    return replace(
        row,
        count=_within(row.count, wilson(seen, stratum.drawn, fraction), stratum.clusters),
        any=_within(row.any, wilson(round(row.any * fraction), stratum.drawn, fraction), stratum.clusters),
        share=None if row.share is None else _within(row.share, wilson(seen, of, fraction), 1),
    )


def _within(value: Number, bounds: tuple[float, float], scale: int) -> Number:
    if not isinstance(value, Estimate):
        return value
    low, high = bounds
    return Estimate(float(value), value.replicates, given=(low * scale, high * scale))
