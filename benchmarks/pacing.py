"""What the pacer alone costs: simulated time, operators of heavy-tailed sizes, 10,000 works at hand.

`python benchmarks/pacing.py [SESSIONS] [PER_PREFIX]` prints one JSON object: microseconds of CPU a session (the
simulation's own included, which is the same with every limit), simulated seconds, and sessions. Addresses of all
operators are strewn over the same /24s, about 25 to each; PER_PREFIX 0 or none leaves prefixes alone.
"""

import heapq
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from scanner.ledger import Work
from scanner.pace import Limits, Pacer
from scanner.records import Endpoint, Observation, Stage, Status
from scanner.scan import WINDOW

START = 1_800_000_000.0
EXPONENT = 1.05
ADDRESSES_A_PREFIX = 25
LIMITS = Limits(rate=1000.0)


def works(count: int) -> Iterator[Work]:
    """One work an address; the operators' sizes follow Zipf's law."""
    draw = random.Random(1)
    operators = max(1, count // 5)
    sizes = [1 / rank**EXPONENT for rank in range(1, operators + 1)]
    owners = draw.choices(range(operators), sizes, k=count)
    places = draw.sample(range(count * 250 // ADDRESSES_A_PREFIX), count)
    for owner, place in zip(owners, places, strict=True):
        number = place // 250
        address = f"{20 + number // 65536}.{number // 256 % 256}.{number % 256}.{1 + place % 250}"
        yield Work(Endpoint(f"mx.operator-{owner}.com", address, 25), 1)


def run(pacer: Pacer, count: int) -> float:
    """Simulated seconds until every session has ended."""
    draw = random.Random(2)
    todo = works(count)
    began = datetime.now(UTC)
    running: list[tuple[float, int, Work]] = []
    ties = itertools.count()
    now, done = START, 0
    while done < count:
        while pacer.waiting < WINDOW and (work := next(todo, None)) is not None:
            pacer.offer(work, now)
        for work in pacer.take(now):
            heapq.heappush(running, (now + min(60.0, draw.expovariate(1 / 3)), next(ties), work))
        wake = pacer.wake_at(now)
        end = running[0][0] if running else float("inf")
        now = max(now, min(end, wake if wake is not None else end))
        while running and running[0][0] <= now:
            work = heapq.heappop(running)[2]
            pacer.finish(work, Observation(work.endpoint, 1, began, 1, Status.MEASURED, Stage.QUIT, None), now)
            done += 1
    return now - START


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    per_prefix = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    limits = replace(LIMITS, per_prefix=per_prefix) if per_prefix else LIMITS
    pacer = Pacer(limits, lambda host: host.split(".", 1)[1], lambda: 0.0)
    cpu = time.process_time()
    simulated = run(pacer, count)
    spent = (time.process_time() - cpu) / count * 1e6
    print(json.dumps({"us_a_session": round(spent, 1), "simulated": round(simulated), "sessions": count}))


if __name__ == "__main__":
    main()
