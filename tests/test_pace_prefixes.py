"""Pacing by network prefix beside operators: both bounds hold, and what may start does start."""

import math
from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from test_pace import START, Run, observation, operator_of, pacer, refused

from scanner.addresses import network_prefix
from scanner.ledger import Work
from scanner.pace import Limits, Pacer
from scanner.records import Endpoint, Reason

SLACK = 1e-6  # times are seconds since the epoch, as floating point


def work(operator, prefix, host, name="mx"):
    """No two operators share an address: such an address would be that of the first."""
    return Work(Endpoint(f"{name}{host}.op{operator}.test", f"203.0.{prefix}.{100 * operator + host}", 25), 1)


def prefix_of(work):
    return network_prefix(work.endpoint.address)


def name_of(work):
    return operator_of(work.endpoint.mx_host)


def gaps_between_starts(log, key):
    begins = defaultdict(list)
    for begin, _, done in log:
        begins[key(done)].append(begin)
    return [later - sooner for times in begins.values() for sooner, later in pairwise(sorted(times))]


class Watched(Pacer):
    """Notes what is under way, and holds after each `take` that nothing is left that may start."""

    def __init__(self, limits):
        super().__init__(limits, operator_of, lambda: 0.5)
        self.under_way = []
        self.last = {}
        self.pending = {}
        self.due = defaultdict(float)

    def offer(self, work, now):
        reason = super().offer(work, now)
        if reason is None:
            self.pending[work.endpoint] = work
        return reason

    def take(self, now):
        started = super().take(now)
        for work in started:
            del self.pending[work.endpoint]
            self.under_way.append(work)
            self.last |= {prefix_of(work): now, name_of(work): now}
        if self.active < self.limits.concurrency and self._tokens.level >= 1:
            assert not [work for work in self.pending.values() if self.may_start(work, now)]
        return started

    def finish(self, work, observation, now):
        self.under_way.remove(work)
        due = self.due[work.endpoint.address]
        self.due[work.endpoint.address] = max(due, now + self.limits.interval)
        aftermath = super().finish(work, observation, now)
        for parked in aftermath.parked:
            self.pending[parked.endpoint] = parked
            self.due[parked.endpoint.address] = parked.not_before.timestamp()
        for stopped in aftermath.stopped:
            del self.pending[stopped.endpoint]
        return aftermath

    def may_start(self, work, now):
        limits = self.limits
        bounds = (
            (lambda w: w.endpoint.address, limits.per_address, None),
            (name_of, limits.per_operator, limits.operator_spacing),
            (prefix_of, limits.per_prefix or math.inf, limits.spacing(limits.per_prefix or 10**9)),
        )
        for key, most, spacing in bounds:
            if sum(key(other) == key(work) for other in self.under_way) >= most:
                return False
            if spacing is not None and now < self.last.get(key(work), -math.inf) + spacing + SLACK:
                return False
        return now > self.due[work.endpoint.address] + SLACK


LIMITS = st.builds(
    Limits,
    concurrency=st.integers(1, 40),
    per_address=st.integers(1, 2),
    interval=st.sampled_from((0.0, 0.3, 5.0, 60.0)),
    per_operator=st.integers(1, 6),
    per_prefix=st.one_of(st.none(), st.integers(1, 6)),
    rate=st.sampled_from((3.0, 50.0, 1e6)),
)
WORKS = st.lists(
    st.builds(work, st.integers(0, 2), st.integers(0, 4), st.integers(1, 8), st.sampled_from(("mx", "also"))),
    max_size=60,
    unique_by=lambda work: work.endpoint,
)


def answer(refusing, blocking):
    def outcome(work):
        number = int(work.endpoint.address.rpartition(".")[2]) % 100
        if number in refusing:
            return refused(work)
        return refused(work, 554, "you are blocked") if number in blocking else observation(work)

    return outcome


@settings(max_examples=150, deadline=None)
@given(LIMITS, WORKS, st.sets(st.integers(1, 8), max_size=1), st.sets(st.integers(1, 8), max_size=1), st.integers())
def test_every_bound_holds_nothing_starves_and_what_may_start_does(limits, todo, refusing, blocking, seed):
    watched = Watched(limits)
    run = Run(watched, todo, seed=seed, outcome=answer(refusing, blocking))
    done = {work.endpoint for _, _, work in run.log}
    stopped = {work.endpoint for work in run.stopped}
    parked = {work.endpoint for work in watched.pending.values()}
    assert done | stopped | parked == {work.endpoint for work in todo}
    assert not [work for work in watched.pending.values() if work.not_before is None]  # only a pause holds back
    if limits.per_prefix is not None:
        assert run.most_at_once(prefix_of) <= limits.per_prefix
        spacing = limits.spacing(limits.per_prefix)
        assert min(gaps_between_starts(run.log, prefix_of), default=spacing) >= spacing - SLACK
    assert run.most_at_once(name_of) <= limits.per_operator
    spacing = limits.operator_spacing
    assert min(gaps_between_starts(run.log, name_of), default=spacing) >= spacing - SLACK


def test_many_small_operators_on_one_network_share_its_bound():
    todo = [Work(Endpoint(f"mx.op{n}.test", f"203.0.{n % 2}.{n}", 25), 1) for n in range(60)]
    free = Run(pacer(rate=1000), todo)
    bound = Run(pacer(rate=1000, per_prefix=2), todo)
    assert free.most_at_once(prefix_of) > 10
    assert bound.most_at_once(prefix_of) == 2
    assert min(gaps_between_starts(bound.log, prefix_of)) >= 2
    assert len(bound.log) == len(free.log) == 60


def test_work_that_waits_for_a_prefix_holds_up_nobody():
    """One operator: while its first network is full, its other one goes on; nobody else waits at all."""
    the_pacer = pacer(interval=0, rate=1e6, per_prefix=1)
    full = [work(0, prefix=1, host=host) for host in range(1, 6)]
    others = [work(0, prefix=2, host=1), work(1, prefix=3, host=1)]
    for each in [*full, *others]:
        the_pacer.offer(each, START)
    the_pacer._tokens.level = 10
    started = the_pacer.take(START)
    assert sorted(map(prefix_of, started)) == ["203.0.1.0/24", "203.0.2.0/24", "203.0.3.0/24"]
    assert the_pacer.active == 3
    assert the_pacer.wake_at(START) is None
    the_pacer.finish(started[0], observation(started[0]), START + 1)
    assert [prefix_of(each) for each in the_pacer.take(START + 1)] == ["203.0.1.0/24"]


def test_an_operator_that_stops_frees_the_network_for_others():
    the_pacer = pacer(interval=0, rate=1e6, per_prefix=1)
    for each in [work(0, prefix=1, host=host) for host in range(1, 6)]:
        the_pacer.offer(each, START)
    now = START
    for _ in range(2):
        now += 1
        (blocked,) = the_pacer.take(now)
        the_pacer.finish(blocked, refused(blocked, 554, "you are blocked"), now)
    assert the_pacer.offer(work(0, prefix=1, host=9), now) is Reason.OPERATOR_STOPPED
    other = work(1, prefix=1, host=7)
    the_pacer.offer(other, now)
    assert the_pacer.take(now + 1) == [other]


def test_an_address_that_is_parked_holds_no_place_of_its_network():
    the_pacer = pacer(interval=1, rate=1e6, per_prefix=1)
    first, also, second = work(0, 1, 1), work(0, 1, 1, "also"), work(1, 1, 2)
    for each in (first, also, second):
        the_pacer.offer(each, START)
    assert the_pacer.take(START) == [first]
    assert the_pacer.finish(first, refused(first), START + 1).parked
    assert the_pacer.take(START + 1) == [second]


def test_places_are_taken_in_turn_by_the_operators_of_a_network():
    """Fifty addresses of one operator come first; the single one of another does not wait for all of them."""
    todo = [*(work(0, prefix=1, host=host) for host in range(1, 51)), work(1, prefix=1, host=1)]
    run = Run(pacer(rate=1000, per_prefix=1), todo)
    order = [name_of(each) for _, _, each in sorted(run.log, key=lambda item: item[0])]
    assert order.index("op1.test") < 5


def test_a_network_of_ipv6_is_a_48():
    todo = [Work(Endpoint(f"mx.op{n}.test", f"2001:db8:{n % 2}:{n}::1", 25), 1) for n in range(20)]
    run = Run(pacer(rate=1000, per_prefix=1), todo)
    by_48 = [int(each.endpoint.address.split(":")[2]) for _, _, each in run.log]
    assert sorted(by_48) == [0] * 10 + [1] * 10
    assert run.most_at_once(prefix_of) == 1
    assert run.most_at_once(lambda _: None) == 2
