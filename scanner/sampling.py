"""Draws the addresses that a sampled scan contacts, each with a known probability; pure.

What is drawn is a cluster: an operator with all its addresses, since a domain or an MX host tells its row only when
all its addresses were asked. Clusters are stratified by size, the number of domains that name a host on one of
their addresses, in powers of four: a stratum of larger ones is drawn twice as densely as the one below, up to all
of it. An operator with more addresses than a tenth of the sample is a stratum of its own, and there an address
is a cluster.

Within a stratum every set of `drawn` clusters is equally likely (a simple random sample without replacement, by
the seeded order), so the probability that given clusters are all drawn is known exactly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scanner.ledger import Sample, SampledAddress, Stratum, order_key

DENSER = 2.0
"""How much more densely a stratum is drawn than the one whose clusters are a quarter of the size."""

LEAST = 5
"""Clusters drawn in a stratum at least, where it has so many: fewer say nothing about their spread."""

LARGE_SHARE = 10
"""An operator with more than one in so many of the sample's addresses is drawn by address."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that could be contacted: whose it is, and how many domains it serves (hosts times domains)."""

    address: str
    operator: str
    domains: int


@dataclass(slots=True)
class _Cluster:
    """What is drawn or not as a whole."""

    name: str
    addresses: list[str] = field(default_factory=list)
    domains: int = 0


@dataclass(frozen=True, slots=True)
class _Layer:
    """A stratum before it is known how many of it are drawn; `density` is relative to that of other strata."""

    density: float
    clusters: Sequence[_Cluster]

    @property
    def addresses(self) -> int:
        return sum(len(cluster.addresses) for cluster in self.clusters)


def draw(candidates: Iterable[Candidate], size: int, seed: int) -> Sample:
    """About `size` addresses: as many as that on average, never fewer than `LEAST` clusters of a stratum."""
    layers = _layers(candidates, size)
    rate = _rate(layers, size)
    strata: list[Stratum] = []
    addresses: list[SampledAddress] = []
    number = 0
    for layer in layers:
        all_of_it = len(layer.clusters)
        wanted = round(all_of_it * min(1.0, rate * layer.density))
        drawn = min(all_of_it, max(wanted, LEAST))
        ranked = sorted(
            layer.clusters, key=lambda cluster: (order_key(seed, f"sample {cluster.name}"), cluster.name)
        )
        for cluster in ranked[:drawn]:
            addresses += [
                SampledAddress(address, len(strata), number, drawn / all_of_it)
                for address in sorted(cluster.addresses)
            ]
            number += 1
        strata.append(Stratum(all_of_it, drawn, layer.addresses))
    return Sample(tuple(strata), tuple(addresses))


def _layers(candidates: Iterable[Candidate], size: int) -> list[_Layer]:
    operators: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        operators.setdefault(candidate.operator, []).append(candidate)
    bands: dict[int, list[_Cluster]] = {}
    layers = []
    for operator, theirs in sorted(operators.items()):
        whole = _Cluster(f"operator {operator}", [c.address for c in theirs], sum(c.domains for c in theirs))
        if len(theirs) > max(1, size // LARGE_SHARE):
            single = [_Cluster(f"address {c.address}", [c.address], c.domains) for c in theirs]
            layers.append(_Layer(DENSER ** _band(whole.domains), single))
        else:
            bands.setdefault(_band(whole.domains), []).append(whole)
    return [_Layer(DENSER**band, bands[band]) for band in sorted(bands)] + layers


def _band(domains: int) -> int:
    """The power of four below: 0 for 0 to 3, 1 for 4 to 15, 2 for 16 to 63, and so on."""
    return max(domains.bit_length() - 1, 0) // 2


def _rate(layers: Sequence[_Layer], size: int) -> float:
    """The probability at density 1 for which `size` addresses are drawn on average."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if sum(layer.addresses * min(1.0, middle * layer.density) for layer in layers) < size:
            low = middle
        else:
            high = middle
    return high
