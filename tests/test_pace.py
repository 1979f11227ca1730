"""Pacing: the bounds hold whatever order work comes in; proved by simulation with a clock of our own."""

import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from scanner.ledger import Work
from scanner.pace import PARK_SECONDS, Aftermath, Limits, Pacer, is_refusal, says_blocked
from scanner.records import ClientAuth, Endpoint, Failure, Observation, Reason, Stage, Status

START = 1_800_000_000.0


def operator_of(host: str) -> str:
    return host.split(".", 1)[1]


def observation(work: Work, **changes) -> Observation:
    fields = {"status": Status.MEASURED, "stage": Stage.QUIT, "failure": None} | changes
    return Observation(
        endpoint=work.endpoint, attempt=work.attempt, started_at=datetime.now(UTC), duration_ms=1, **fields
    )


def refused(work: Work, code: int = 421, text: str = "busy") -> Observation:
    return observation(
        work,
        status=Status.FAILED,
        stage=Stage.GREETING,
        failure=Failure.NEGATIVE_REPLY,
        reply_code=code,
        detail=f"{code} {text}",
    )


def pacer(**limits) -> Pacer:
    return Pacer(Limits(**limits), operator_of, lambda: 0.0)


def works(count: int, operators: int, names: int = 1) -> list[Work]:
    return [
        Work(Endpoint(f"mx{name}-{i}.op{i % operators}.test", f"192.0.2.{i}", 25), 1)
        for i in range(count)
        for name in range(names)
    ]


class Run:
    """A simulated scan: sessions of random length, every start and end written down."""

    def __init__(self, pacer: Pacer, todo: list[Work], seed: int = 1, outcome=observation, until: float = 1e9):
        self.random = random.Random(seed)
        self.log: list[tuple[float, float, Work]] = []
        self.parked: list[Work] = []
        self.stopped: list[Work] = []
        now, running = START, []
        for work in todo:
            assert pacer.offer(work, now) is None
        while now < START + until:
            running.extend((now + self.random.uniform(0.1, 9), now, work) for work in pacer.take(now))
            running.sort(key=lambda item: item[0])
            wake = pacer.wake_at(now)
            if not running and (wake is None or pacer.all_parked(now)):
                break
            ends = running[0][0] if running else float("inf")
            now = max(now, min(ends, wake if wake is not None else float("inf")))
            if running and running[0][0] <= now:
                end, begin, work = running.pop(0)
                self.log.append((begin, end, work))
                aftermath = pacer.finish(work, outcome(work), now)
                self.parked.extend(aftermath.parked)
                self.stopped.extend(aftermath.stopped)
        self.seconds = now - START

    def most_at_once(self, key) -> int:
        worst = 0
        for begin, _, work in self.log:
            worst = max(worst, sum(b <= begin < e and key(w) == key(work) for b, e, w in self.log))
        return worst

    def gaps(self, key) -> list[float]:
        by_key = {}
        for begin, end, work in sorted(self.log, key=lambda item: item[0]):
            by_key.setdefault(key(work), []).append((begin, end))
        return [b - e for spans in by_key.values() for (_, e), (b, _) in itertools.pairwise(spans)]


def test_every_bound_holds_together():
    todo = works(120, operators=5, names=3)
    random.Random(2).shuffle(todo)
    run = Run(pacer(concurrency=30, interval=60, per_operator=4, rate=10), todo)
    assert sorted(w.endpoint for _, _, w in run.log) == sorted(w.endpoint for w in todo)
    assert run.most_at_once(lambda _: None) <= 30
    assert run.most_at_once(lambda w: w.endpoint.address) == 1
    assert run.most_at_once(lambda w: operator_of(w.endpoint.mx_host)) <= 4
    assert min(run.gaps(lambda w: w.endpoint.address)) >= 60
    starts = {}
    for begin, _, work in run.log:
        starts.setdefault(operator_of(work.endpoint.mx_host), []).append(begin)
    for times in starts.values():
        times.sort()
        assert min(b - a for a, b in itertools.pairwise(times)) >= 1 - 1e-6


def test_rate_holds_over_every_second_and_starts_slowly():
    run = Run(pacer(concurrency=1000, interval=0, per_operator=1000, rate=20), works(250, operators=1))
    starts = sorted(begin for begin, _, _ in run.log)
    for first in starts:
        assert sum(first <= s < first + 1 for s in starts) <= 20 + 2  # one second's rate and the burst
    assert sum(s < START + 1 for s in starts) <= 5


def test_a_busy_operator_holds_up_nobody_else():
    todo = [*works(400, operators=1), Work(Endpoint("mx.other.test", "198.51.100.1", 25), 1)]
    run = Run(pacer(interval=60, per_operator=4, rate=50), todo, until=30)
    assert any(w.endpoint.mx_host == "mx.other.test" for _, _, w in run.log)


def test_421_parks_every_piece_of_work_of_the_address():
    todo = works(1, operators=1, names=3)
    run = Run(pacer(interval=5), todo, outcome=refused)
    assert len(run.log) == 1
    assert {w.endpoint for w in run.parked} == {w.endpoint for w in todo}
    first = run.log[0]
    retry = next(w for w in run.parked if w.endpoint == first[2].endpoint)
    assert retry.attempt == 2
    assert retry.not_before == datetime.fromtimestamp(first[1] + PARK_SECONDS[0], UTC)


def test_parked_work_comes_back_with_growing_pauses_and_at_most_three_tries():
    todo = works(1, operators=1)
    the_pacer = pacer(interval=1)
    the_pacer.offer(todo[0], START)
    now, starts = START, []
    while the_pacer.waiting:
        now = max(now, the_pacer.wake_at(now) or now)
        for work in the_pacer.take(now):
            starts.append(now)
            the_pacer.finish(work, refused(work), now)
    assert len(starts) == 3
    assert starts[1] - starts[0] >= PARK_SECONDS[0]
    assert starts[2] - starts[1] >= PARK_SECONDS[1]


def test_two_blocked_texts_stop_the_operator_and_no_other():
    def outcome(work):
        if "op0" in work.endpoint.mx_host:
            return refused(work, 554, "5.7.1 blocked using zen.spamhaus.example")
        return observation(work)

    run = Run(pacer(interval=0, rate=1000, per_operator=1), works(20, operators=2), outcome=outcome)
    assert len([w for _, _, w in run.log if "op0" in w.endpoint.mx_host]) == 2
    assert len(run.stopped) == 8
    assert len([w for _, _, w in run.log if "op1" in w.endpoint.mx_host]) == 10


def test_stopped_operator_refuses_new_work():
    the_pacer = pacer(interval=0, rate=1000, per_operator=1)
    for work in works(4, operators=1)[:2]:
        the_pacer.offer(work, START)
    for now in (START, START + 5):
        for work in the_pacer.take(now):
            the_pacer.finish(work, refused(work, 554, "you are blocked"), now)
    assert the_pacer.offer(works(4, operators=1)[3], START + 6) is Reason.OPERATOR_STOPPED


def test_an_operator_that_stops_while_sessions_are_under_way_holds_up_nobody():
    """Three sessions at once: two are told that we are blocked, the third is refused after that."""
    the_pacer = pacer(interval=0, rate=1000, per_operator=3)
    for work in works(9, operators=1):
        the_pacer.offer(work, START)
    under_way, now = [], START
    while len(under_way) < 3:
        now += 1
        under_way += the_pacer.take(now)
    first, second, third = under_way
    the_pacer.finish(first, refused(first, 554, "you are blocked"), now)
    assert the_pacer.finish(second, refused(second, 554, "you are blocked"), now).stopped
    assert the_pacer.take(now + 1) == []
    assert the_pacer.finish(third, refused(third, 421), now + 1) == Aftermath()
    assert the_pacer.waiting == 0
    other = Work(Endpoint("mx.other.test", "198.51.100.1", 25), 1)
    the_pacer.offer(other, now + 2)
    assert the_pacer.take(now + 2) == [other]


def test_an_address_of_an_operator_that_stopped_takes_no_work_under_another_name():
    the_pacer = pacer(interval=0, rate=1000, per_operator=1)
    for now, name in ((START, "a"), (START + 1, "b")):
        work = Work(Endpoint(f"{name}.op.test", "192.0.2.1", 25), 1)
        the_pacer.offer(work, now)
        assert the_pacer.take(now) == [work]
        the_pacer.finish(work, refused(work, 554, "you are blocked"), now)
    also = Work(Endpoint("mx.other.test", "192.0.2.1", 25), 1)
    assert the_pacer.offer(also, START + 2) is Reason.OPERATOR_STOPPED
    assert the_pacer.has_stopped("a.op.test")
    assert not the_pacer.has_stopped("mx.other.test")
    assert the_pacer.all_parked(START + 2)


def test_what_is_due_later_holds_up_nothing_that_comes_after_it():
    for limits in ({}, {"per_prefix": 4}):
        the_pacer = pacer(interval=60, **limits)
        later = Work(Endpoint("a.x.test", "192.0.2.1", 25), 2, datetime.fromtimestamp(START + 40, UTC))
        sooner = Work(Endpoint("b.x.test", "192.0.2.2", 25), 1)
        the_pacer.offer(later, START)
        the_pacer.offer(sooner, START + 1)
        assert the_pacer.take(START + 1) == [sooner]


def test_slots_are_kept_between_heeding_the_end_and_abandoning():
    the_pacer = pacer(interval=0, rate=1000)
    first, second = works(1, operators=1, names=2)
    the_pacer.offer(first, START)
    the_pacer.offer(second, START)
    assert the_pacer.take(START) == [first]
    assert the_pacer.heed(first, observation(first), START) == Aftermath()
    assert the_pacer.take(START + 9) == []
    the_pacer.abandon(first, START + 9)
    assert the_pacer.take(START + 9) == [second]


def test_pauses_grow_across_runs():
    """The second attempt of a resumed scan is one that an earlier run was refused."""
    the_pacer = pacer()
    (first,) = works(1, operators=1)
    again = replace(first, attempt=2)
    the_pacer.offer(again, START)
    assert the_pacer.take(START) == [again]
    (parked,) = the_pacer.finish(again, refused(again, 421), START).parked
    assert (parked.attempt, parked.not_before.timestamp()) == (3, START + PARK_SECONDS[1])


def test_what_an_earlier_run_heard_counts():
    once, twice, never = works(3, 3)
    the_pacer = pacer()
    the_pacer.recall(once.endpoint.mx_host, 1)
    the_pacer.recall(twice.endpoint.mx_host, 1)
    the_pacer.recall(f"other.{operator_of(twice.endpoint.mx_host)}", 1)
    assert the_pacer.offer(twice, START) is Reason.OPERATOR_STOPPED
    assert the_pacer.offer(once, START) is None
    assert the_pacer.offer(never, START) is None
    (first,) = the_pacer.take(START)
    (second,) = the_pacer.take(START + 5)
    assert {first, second} == {once, never}
    the_pacer.finish(once, refused(once, 554, "you are blocked"), START + 6)
    assert the_pacer.offer(once, START + 7) is Reason.OPERATOR_STOPPED
    the_pacer.finish(never, refused(never, 554, "you are blocked"), START + 6)
    assert the_pacer.offer(never, START + 7) is None


def test_work_of_an_earlier_run_waits_for_its_interval_or_its_parking():
    soon = Work(Endpoint("a.x.test", "192.0.2.1", 25), 2, datetime.fromtimestamp(START + 40, UTC))
    parked = Work(Endpoint("b.y.test", "192.0.2.2", 25), 2, datetime.fromtimestamp(START + 500, UTC))
    the_pacer = pacer(interval=60)
    the_pacer.offer(soon, START)
    the_pacer.offer(parked, START)
    assert the_pacer.take(START + 39) == []
    assert not the_pacer.all_parked(START + 39)
    assert the_pacer.take(START + 41) == [soon]
    the_pacer.finish(soon, observation(soon), START + 42)
    assert the_pacer.all_parked(START + 43)
    assert the_pacer.take(START + 501) == [parked]


def test_memory_follows_what_is_open():
    the_pacer = pacer(interval=1, rate=10_000, per_operator=1000, per_prefix=1)
    now = START
    for number, work in enumerate(works(200, operators=200)):
        work = replace(work, endpoint=replace(work.endpoint, address=f"192.0.{number}.1"))  # noqa: PLW2901
        the_pacer.offer(work, now)
        for ready in the_pacer.take(now):
            the_pacer.finish(ready, observation(ready), now)
        now += 10
    assert len(the_pacer._addresses) < 20
    assert max(map(len, (the_pacer._turns.operators, the_pacer._turns.prefixes, the_pacer._turns.cells))) < 20


def test_what_counts_as_a_refusal():
    work = works(1, 1)[0]
    table = [
        (refused(work, 421), True),
        (refused(work, 454), True),
        (refused(work, 554), False),
        (observation(work, status=Status.FAILED, stage=Stage.GREETING, failure=Failure.RESET), True),
        (observation(work, status=Status.FAILED, stage=Stage.CONNECT, failure=Failure.REFUSED), False),
        (observation(work, failure=Failure.CLOSED, client_auth=ClientAuth.REQUIRED), False),
        (observation(work, failure=Failure.NEGATIVE_REPLY, reply_code=421, client_auth=ClientAuth.REQUIRED), False),
        (
            observation(
                work, failure=Failure.NEGATIVE_REPLY, reply_code=421, client_auth=ClientAuth.REQUESTED_UNKNOWN
            ),
            True,
        ),
        (observation(work), False),
    ]
    for outcome, expected in table:
        assert is_refusal(outcome) is expected, outcome


def test_blocked_texts_are_words_of_a_reply_before_tls():
    work = works(1, 1)[0]
    assert says_blocked(refused(work, 550, "5.7.1 Service unavailable; client blocked using rbl"))
    assert not says_blocked(refused(work, 554, "no SMTP service here"))
    assert not says_blocked(observation(work, greeting="220 blocked.example ESMTP"))


def test_interval_zero_does_not_space_an_operator():
    run = Run(pacer(interval=0, rate=10_000, per_operator=4), works(40, operators=1))
    assert run.seconds < timedelta(minutes=3).total_seconds()
    assert run.most_at_once(lambda _: None) == 4
