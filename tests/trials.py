"""One random trial of disclosure control: a population, its release, an attacker, and what was narrowed.

`python tests/trials.py one|same|grown FIRST LAST` runs many and prints what it found.
"""

import math
import random
import sys
from collections import Counter
from datetime import timedelta

from attacker import Attacker
from censuses import START
from populations import info, population

from reports.disclosure.cells import cells
from reports.disclosure.differences import protect
from reports.disclosure.relations import links
from reports.disclosure.release import Earlier, Method, document, release, source_of
from reports.disclosure.rules import RefusedError, Rules

FIGURES = [
    "routing",
    "outcome",
    "eku",
    "hierarchy",
    "eku_by_hierarchy",
    "programs",
    "issuers",
    "client_auth",
    "eku_by_client_auth",
    "software",
    "software_by_eku",
    "validity",
    "key_types",
    "tls_versions",
    "exposure",
    "exposure_by_program",
    "client_need",
]


def publish(people, rules, names, units, *, earlier=(), round_to=1, scan=1, started=START):
    report = people.report(names, units, info(scan, started))
    found = cells(report, people, people.profiles)
    source = source_of(report, "0", "random")
    past = [Earlier(one, "0" * 64) for one in earlier]
    passed = protect(found, rules, links(people.profiles), source, past, round_to)
    return found, release(found, passed, source, Method(rules, round_to))


def chosen(rng):
    """A threshold, figures and units for one trial."""
    names = set(rng.sample(FIGURES, rng.choice([2, 3, 4])))
    if rng.random() < 0.6:
        names |= {"eku", "hierarchy", "eku_by_hierarchy"}
    units = set(rng.sample(["certificate", "mx_host", "domain", "operator"], rng.choice([1, 1, 2, 2, 3])))
    return Rules(rng.choice([3, 3, 4, 5])), names, units


def truth(found, name):
    """The true number behind an attacker's variable."""
    unit, rest = name[1], name[2:]
    for cell, value in found.values.items():
        if cell.unit == unit and (cell.figure, cell.key) == rest:
            return value
        if cell.unit == unit and cell.figure == "coverage" and cell.key == rest:
            return value
    raise LookupError(name)


def promise(rules, value):
    return max(rules.min_count, math.ceil(value / 10))


def one_release(seed):
    """Attack one release; None where it was refused, else (hidden cells, cells, broken promises)."""
    rng = random.Random(seed)
    rules, names, units = chosen(rng)
    people = population(seed, operators=rng.choice([12, 16, 20, 30]), most=rng.choice([2, 4]))
    try:
        found, published = publish(people, rules, names, units)
    except RefusedError:
        return None
    attack = Attacker()
    attack.learn(document(published))
    promises = {name: promise(rules, truth(found, name)) for name in attack.hidden}
    return len(promises), len(attack.names), attack.narrowed(promises, rng)


def same_scan(seed):
    """Publish one scan twice, differently, and attack both together."""
    rng = random.Random(seed)
    rules, names, units = chosen(rng)
    people = population(seed, operators=rng.choice([16, 20, 30]), most=rng.choice([2, 4]))
    try:
        _, first = publish(people, rules, names, units)
        also = names | set(rng.sample(FIGURES, 2))
        again, second = publish(people, Rules(rng.choice([3, 4, 5])), also, units, earlier=[first])
    except RefusedError:
        return None
    attack = Attacker()
    attack.learn(document(first))
    attack.learn(document(second))
    both = {name: min(rules.min_count, second.method.rules.min_count) for name in attack.hidden}
    promises = {name: max(least, math.ceil(truth(again, name) / 10)) for name, least in both.items()}
    return len(promises), len(attack.names), attack.narrowed(promises, rng)


def grown(seed):
    """Publish a population, let it grow, publish again beside the first, and suppose that it grew."""
    rng = random.Random(seed)
    rules, names, units = chosen(rng)
    units |= {"operator"} if rng.random() < 0.7 else set()
    many, more = rng.choice([16, 24]), rng.choice([1, 3, 8, 16])
    base = rng.choice([1, 1, 5])
    small, large = population(seed, operators=many, most=3), population(seed, operators=many, most=3, more=more)
    try:
        before, first = publish(small, rules, names, units, round_to=base)
        later = START + timedelta(days=30)
        after, second = publish(large, rules, names, units, earlier=[first], round_to=base, scan=2, started=later)
    except RefusedError:
        return None
    attack = Attacker()
    attack.learn(document(first), "1")
    attack.learn(document(second), "2")
    if not attack.suppose("1", "2"):
        return len(attack.hidden), len(attack.names), {}
    promises = {n: promise(rules, truth(before if n[0] == "1" else after, n)) for n in attack.hidden}
    return len(promises), len(attack.names), attack.narrowed(promises, rng)


KINDS = {"one": one_release, "same": same_scan, "grown": grown}


def run(kind, seeds):
    """Many trials: what they found, and the broken promises by seed."""
    totals, broken = Counter(), {}
    for seed in seeds:
        outcome = KINDS[kind](seed)
        if outcome is None:
            totals["refused"] += 1
            continue
        totals += Counter(released=1, hidden=outcome[0], cells=outcome[1])
        if outcome[2]:
            broken[seed] = outcome[2]
    return totals, broken


if __name__ == "__main__":
    for start in range(int(sys.argv[2]), int(sys.argv[3]), 100):
        sys.stdout.write(f"{start} {run(sys.argv[1], range(start, min(start + 100, int(sys.argv[3]))))}\n")
        sys.stdout.flush()
