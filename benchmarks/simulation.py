"""A discrete-event simulation of a fleet's scheduler with heavy-tailed operators: where politeness decides.

`python benchmarks/simulation.py [ADDRESSES] [SESSIONS]` prints a table. Operators' sizes follow Zipf's law; a
session takes 3 seconds on average (exponential, at most 60); an operator takes four at once and one new a second,
as `mxcensus.fleet.pace.Operator` decides, which is the program's own. Five orders of work are compared:

- `mixed`: each address is due at its operator's ticket; of those due any comes first (what the fleet does);
- `planned`: due at the same tickets, the earliest due comes first;
- `longest`: due at the same tickets, but first comes the operator that has most left;
- `random`: all due at once, in random order; those that find their operator busy come again at a ticket;
- `last`: the same, small operators first and the large ones at the end.

The bound is what no order can beat: the larger of all sessions through all places, and the largest operator's own.
"""

import heapq
import itertools
import random
import sys
from collections.abc import Generator

import simpy

from mxcensus.fleet.pace import Operator
from scanner.pace import Limits

LIMITS = Limits()
MEAN, LONGEST = 3.0, 60.0
EXPONENT = 1.05
OPERATORS_AN_ADDRESS = 0.2


def sizes(addresses: int) -> list[int]:
    """How many addresses each operator has, the largest first; they sum to about `addresses`."""
    operators = max(1, int(addresses * OPERATORS_AN_ADDRESS))
    weights = [1 / rank**EXPONENT for rank in range(1, operators + 1)]
    return [max(1, round(addresses * weight / sum(weights))) for weight in weights]


def arrivals(order: str, counts: list[int], draw: random.Random) -> list[tuple[float, int]]:
    """When each address is due first, and its operator's number, in the order of the queue."""
    if order in {"mixed", "planned", "longest"}:
        operators = [Operator(str(number)) for number in range(len(counts))]
        due = [(operators[n].ticket(0.0, LIMITS), n) for n, count in enumerate(counts) for _ in range(count)]
        return sorted(due)
    work = [n for n, count in enumerate(counts) for _ in range(count)]
    if order == "random":
        draw.shuffle(work)
    else:
        work.reverse()
    return [(0.0, n) for n in work]


class Fleet:
    """`places` sessions at once over a queue that gives out what is due, as the database gives jobs out."""

    def __init__(self, order: str, counts: list[int], places: int) -> None:
        self.env = simpy.Environment()
        self.asked = 0
        self.busy = 0.0
        self._order = order
        self._draw = random.Random(1)
        self._operators = [Operator(str(number)) for number in range(len(counts))]
        self._remaining = list(counts)
        self._later: list[tuple[float, int, int]] = []
        self._due: list[tuple[float, int, int]] = []
        self._numbers = itertools.count()
        self._free = places
        for at, number in arrivals(order, counts, self._draw):
            heapq.heappush(self._later, (at, next(self._numbers), number))

    def run(self) -> float:
        """Seconds until the last session has ended."""
        self.env.process(self._give_out())
        self.env.run()
        return float(self.env.now)

    def _give_out(self) -> Generator[simpy.Event, object, None]:
        while any(self._remaining):
            self._sort()
            while self._free and self._due:
                number = heapq.heappop(self._due)[2]
                self._begin(number)
                self._sort()
            yield self.env.timeout(0.25)  # workers poll

    def _sort(self) -> None:
        """What is due now, in the order in which it is given out."""
        while self._later and self._later[0][0] <= self.env.now:
            at, tie, number = heapq.heappop(self._later)
            heapq.heappush(self._due, (self._rank(at, number), tie, number))

    def _rank(self, at: float, number: int) -> float:
        if self._order == "mixed":
            return self._draw.random()
        return -self._remaining[number] if self._order == "longest" else at

    def _begin(self, number: int) -> None:
        self.asked += 1
        operator, holder = self._operators[number], str(self.asked)
        start = operator.enter(holder, self.env.now, LIMITS, LONGEST)
        if start is None:
            at = max(operator.ticket(self.env.now, LIMITS), self.env.now + 0.25)
            heapq.heappush(self._later, (at, next(self._numbers), number))
            return
        self._free -= 1
        self._remaining[number] -= 1
        self.env.process(self._session(operator, holder, start))

    def _session(self, operator: Operator, holder: str, start: float) -> Generator[simpy.Event, object, None]:
        seconds = min(LONGEST, self._draw.expovariate(1 / MEAN))
        yield self.env.timeout(start - self.env.now + seconds)
        operator.leave(holder, self.env.now)
        self.busy += seconds
        self._free += 1


def main() -> None:
    addresses = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    places = [int(sys.argv[2])] if len(sys.argv) > 2 else [10, 50, 200, 1000]
    counts = sizes(addresses)
    total = sum(counts)
    print(f"{total} addresses, {len(counts)} operators, the largest has {counts[0]} ({counts[0] / total:.1%})")
    print("| sessions at once | bound, s | order | seconds | of the bound | questions a session | places in use |")
    print("|---|---|---|---|---|---|---|")
    for at_once in places:
        bound = max(total * MEAN / at_once, counts[0] * LIMITS.operator_spacing)
        for order in ("mixed", "planned", "longest", "random", "last"):
            fleet = Fleet(order, counts, at_once)
            took = fleet.run()
            cells = (
                f"{took:.0f}",
                f"{took / bound:.2f}",
                f"{fleet.asked / total:.2f}",
                f"{fleet.busy / took / at_once:.0%}",
            )
            print(f"| {at_once} | {bound:.0f} | {order} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
