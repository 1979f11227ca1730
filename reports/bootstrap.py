"""Weights of a sample: what each unit stands for, and the same in a thousand resamples of the clusters.

The Horvitz-Thompson weight of a unit is 1 over the probability that all its clusters are drawn. Intervals come from
the rescaling bootstrap (Rao and Wu 1988) by cluster, which is an operator: within a stratum n - 1 of its n drawn
clusters are drawn again with replacement, and weights are scaled by the square root of the share of the stratum
that was not drawn. A stratum that was drawn whole adds nothing to the spread.

NumPy does the sums; it is the extra `estimates`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from storage.sampled import Stratum

REPLICATES = 1000


class NoEstimates(ValueError):
    """The extra `estimates` is not installed; the message is one line."""


def inclusion_probability(strata: Sequence[Stratum], clusters: Sequence[int]) -> float:
    """The probability that clusters of these strata (an index each) are all drawn: without replacement."""
    probability = 1.0
    for stratum, count in Counter(clusters).items():
        layer = strata[stratum]
        for before in range(count):
            probability *= (layer.drawn - before) / (layer.clusters - before)
    return probability


def factors(strata: Sequence[Stratum], stratum_of: Sequence[int], seed: int, replicates: int = REPLICATES) -> Any:
    """A matrix, clusters by replicates, of what weights are multiplied with; `stratum_of` is by cluster."""
    numpy = _numpy()
    generator = numpy.random.Generator(numpy.random.PCG64(seed & (2**63 - 1)))
    made = numpy.ones((len(stratum_of), replicates), dtype=numpy.float32)
    members: dict[int, list[int]] = {}
    for cluster, stratum in enumerate(stratum_of):
        members.setdefault(stratum, []).append(cluster)
    for stratum, clusters in sorted(members.items()):
        layer = strata[stratum]
        drawn = len(clusters)
        if drawn < 2 or layer.drawn == layer.clusters:
            continue
        scale = float((1 - layer.drawn / layer.clusters) ** 0.5)
        again = generator.multinomial(drawn - 1, [1 / drawn] * drawn, size=replicates).T
        made[clusters] = 1 - scale + scale * drawn / (drawn - 1) * again
    return made


def _numpy() -> Any:
    try:
        import numpy  # noqa: ICN001, PLC0415  # an extra: a census without a sample does not need it
    except ImportError:
        raise NoEstimates(
            "the report of a sample needs the extra `estimates`: pip install 'mxcensus[estimates]'"
        ) from None
    return numpy
