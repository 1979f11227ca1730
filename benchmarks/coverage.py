"""How often the 95 % intervals of a sample cover the truth: many samples of one made-up population.

    python benchmarks/coverage.py --runs 2000

Operators have heavy-tailed numbers of domains and hosts, what their hosts present is alike within an operator, some
addresses are shared by two hosts and some domains have hosts at two operators. Each run draws a sample with another
seed and tells totals and shares; a line says in how many runs the interval held the true number.
"""

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reports.amounts import Estimate
from reports.bootstrap import factors, inclusion_probability
from scanner.ledger import Sample
from scanner.sampling import Candidate, draw

KINDS = ("server-only", "server+client", "absent", "any")


@dataclass(slots=True)
class World:
    """A population: host -> (operator, address, kind), and the hosts of each domain."""

    hosts: list[tuple[str, str, str]] = field(default_factory=list)
    domains: list[tuple[int, ...]] = field(default_factory=list)

    def candidates(self) -> Iterable[Candidate]:
        """The frame of addresses, as a scan would make it."""
        served = Counter(host for hosts in self.domains for host in hosts)
        by_address: dict[str, list[int]] = defaultdict(list)
        for number, (_, address, _) in enumerate(self.hosts):
            by_address[address].append(number)
        for address, hosts in by_address.items():
            yield Candidate(address, self.hosts[hosts[0]][0], sum(served[host] for host in hosts))

    def units(self) -> dict[str, list[tuple[str, frozenset[str]]]]:
        """Unit -> (its row, its addresses) of each."""
        of_address: dict[str, set[str]] = defaultdict(set)
        for _, address, kind in self.hosts:
            of_address[address].add(kind)
        return {
            "address": [(_row(kinds), frozenset({address})) for address, kinds in of_address.items()],
            "mx_host": [(kind, frozenset({address})) for _, address, kind in self.hosts],
            "domain": [
                (_row({self.hosts[host][2] for host in hosts}), frozenset(self.hosts[host][1] for host in hosts))
                for hosts in self.domains
            ],
        }


def _row(kinds: set[str]) -> str:
    return next(iter(kinds)) if len(kinds) == 1 else "mixed"


def make_world(seed: int, operators: int) -> World:
    """A population of that many operators."""
    rng = random.Random(seed)
    world = World()
    for number in range(operators):
        domains = max(1, int(rng.paretovariate(0.9)) % 20_000)
        hosts = max(1, min(60, int(domains**0.4 * rng.uniform(0.6, 1.6))))
        first = len(world.hosts)
        usual = rng.choices(KINDS, (60, 28, 8, 4))[0]
        for at in range(hosts):
            kind = usual if rng.random() < 0.85 else rng.choice(KINDS)
            address = f"{number}.{at - (at % 2 if rng.random() < 0.2 else 0)}"
            world.hosts.append((f"operator{number}", address, kind))
        for _ in range(domains):
            named = {first + rng.randrange(hosts) for _ in range(rng.choice((1, 2)))}
            if first and rng.random() < 0.03:
                named.add(rng.randrange(first))  # a second provider
            world.domains.append(tuple(sorted(named)))
    return world


def estimates(
    units: dict[str, list[tuple[str, frozenset[str]]]], sample: Sample, seed: int, replicates: int
) -> dict[tuple[str, str, str], Estimate]:
    """(unit, row, total or share) -> its estimate from one sample."""
    place = {drawn.address: drawn for drawn in sample.addresses}
    stratum_of = {drawn.cluster: drawn.stratum for drawn in sample.addresses}
    made = factors(sample.strata, [stratum_of[number] for number in sorted(stratum_of)], seed, replicates)
    told: dict[tuple[str, str, str], Estimate] = {}
    for unit, members in units.items():
        groups: Counter[tuple[str, tuple[int, ...]]] = Counter()
        for row, addresses in members:
            if all(address in place for address in addresses):
                groups[row, tuple(sorted({place[address].cluster for address in addresses}))] += 1
        rows: dict[str, Estimate] = {}
        for (row, clusters), count in groups.items():
            weight = count / inclusion_probability(sample.strata, [stratum_of[number] for number in clusters])
            open_ = [
                c for c in clusters if sample.strata[stratum_of[c]].drawn < sample.strata[stratum_of[c]].clusters
            ]
            amount = Estimate(
                weight,
                weight * made[list(clusters)].prod(axis=0),
                weight if open_ else 0,
                weight**2 if open_ else 0,
            )
            rows[row] = rows[row] + amount if row in rows else amount
        everything = sum(rows.values(), start=Estimate(0.0, 0.0))
        for row, amount in rows.items():
            told[unit, row, "total"], told[unit, row, "share"] = amount, amount / everything
    return told


def truth(units: dict[str, list[tuple[str, frozenset[str]]]]) -> dict[tuple[str, str, str], float]:
    """What the estimates are of."""
    found = {}
    for unit, members in units.items():
        rows = Counter(row for row, _ in members)
        for row, count in rows.items():
            found[unit, row, "total"], found[unit, row, "share"] = float(count), count / len(members)
    return found


def coverage(
    world: World, size: int, seeds: Sequence[int], replicates: int
) -> dict[tuple[str, str, str], tuple[float, float]]:
    """(unit, row, total or share) -> how often its interval covered, and its mean over the truth."""
    units, candidates = world.units(), list(world.candidates())
    true = truth(units)
    covered: Counter[tuple[str, str, str]] = Counter()
    sums: Counter[tuple[str, str, str]] = Counter()
    for seed in seeds:
        told = estimates(units, draw(candidates, size, seed), seed, replicates)
        for key, number in true.items():
            low, high = told[key].bounds if key in told else (0.0, 0.0)
            covered[key] += low <= number <= high
            sums[key] += float(told.get(key, 0.0)) / number  # type: ignore[assignment]  # a Counter of floats
    return {key: (covered[key] / len(seeds), sums[key] / len(seeds)) for key in true}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--operators", type=int, default=3000)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=300)
    arguments = parser.parse_args()
    world = make_world(1, arguments.operators)
    print(f"{len(world.hosts)} hosts, {len(world.domains)} domains, {sum(1 for _ in world.candidates())} addresses")
    found = coverage(world, arguments.size, range(arguments.runs), arguments.replicates)
    true = truth(world.units())
    for key, (share, bias) in sorted(found.items()):
        print(f"{'/'.join(key):32} true {true[key]:10.4g}  covered {share:6.1%}  estimate/truth {bias:.4f}")


if __name__ == "__main__":
    main()
