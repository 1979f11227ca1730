"""All waiting: which attempt may start now, and which must not start yet.

`Pacer` is a state machine without a clock: `offer` gives it work, `take` hands out what may start now, `finish`
tells it how an attempt ended. Five bounds hold at once, whatever order work comes in:

1. sessions in flight, all together (`concurrency`);
2. new connections a second, all together (`rate`), reached by a slow start;
3. sessions at once to one address (`per_address`), and `interval` seconds from the end of one to the start of the
   next;
4. sessions at once to one operator (`per_operator`), and 4 / `per_operator` seconds between two starts, so that the
   default of 4 means one new connection a second (never more than `interval`, which spaces single addresses);
5. an address that answered 4xx or dropped the connection is parked: everything that waits for it waits for
   15 minutes, then 2 hours, then a day, with jitter; an operator that says twice that we are blocked is left alone.

Waiting work lies in its address, a waiting address in its operator, a waiting operator in one heap by the time at
which it may next start something; so a step costs O(log n) however much waits, and an operator with a million
hosts holds up nobody else.
"""

import heapq
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from scanner.ledger import Work
from scanner.records import ClientAuth, Failure, Observation, Reason, Stage, Status

PARK_SECONDS = (900.0, 7200.0, 86400.0)
"""How long an address is left alone after its first, second and later refusals."""

SLOW_START_SECONDS = 10.0
SLOW_START_SHARE = 0.1

_BLOCKED = re.compile(
    r"\b(blocked|block ?list(ed)?|blacklist(ed)?|banned|denylist(ed)?|rbl|dnsbl|spamhaus|reputation)\b",
    re.IGNORECASE,
)
_EARLY_STAGES = frozenset({Stage.GREETING, Stage.EHLO, Stage.STARTTLS})


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a scan; seconds, sessions and new connections a second."""

    concurrency: int = 500
    per_address: int = 1
    interval: float = 60.0
    per_operator: int = 4
    rate: float = 50.0
    max_attempts: int = 3

    @property
    def operator_spacing(self) -> float:
        """Seconds between two starts at one operator."""
        return min(self.interval, 4 / self.per_operator)


@dataclass(slots=True)
class Tokens:
    """New connections a second, `rate` of them after a slow start; each start takes 1 from `level`."""

    rate: float
    level: float = 1.0
    _began: float | None = None
    _at: float = 0.0

    def refill(self, now: float) -> None:
        if self._began is None:
            self._began = self._at = now
        self.level = min(max(1.0, self.rate / 10), self.level + (now - self._at) * self._allowed(now))
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds from now until a start is allowed."""
        missing = 1 - self.level
        return max(0.001, missing / self._allowed(now)) if missing > 0 else 0.0

    def _allowed(self, now: float) -> float:
        age = now - (self._began if self._began is not None else now)
        return self.rate * min(1.0, SLOW_START_SHARE + age / SLOW_START_SECONDS)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What an attempt's end means for work that waits: put off, or dropped with its operator."""

    parked: tuple[Work, ...] = ()
    stopped: tuple[Work, ...] = ()


@dataclass(slots=True)
class _Address:
    operator: str
    active: int = 0
    free_at: float = 0.0
    parked_until: float = 0.0
    refusals: int = 0
    waiting: deque[Work] = field(default_factory=deque)

    @property
    def at(self) -> float:
        return max(self.free_at, self.parked_until)


@dataclass(slots=True)
class _Operator:
    active: int = 0
    next_start: float = 0.0
    blocked: int = 0
    stopped: bool = False
    queued_at: float | None = None  # the time of its one valid entry in the heap
    ready: list[tuple[float, int, str]] = field(default_factory=list)  # (at, tie, address); entries may be stale


class Pacer:
    """See the module. Times are seconds since the epoch; they come in as arguments and never go back."""

    def __init__(self, limits: Limits, operator_of: Callable[[str], str], jitter: Callable[[], float]) -> None:
        """`operator_of` maps an MX host to its operator; `jitter` gives a number in [0, 1)."""
        self.limits = limits
        self.waiting = 0
        self.active = 0
        self._operator_of = operator_of
        self._jitter = jitter
        self._addresses: dict[str, _Address] = {}
        self._operators: dict[str, _Operator] = {}
        self._heap: list[tuple[float, int, str]] = []  # (at, tie, operator); entries may be stale
        self._tie = count()
        self._tokens = Tokens(limits.rate)
        self._swept_at = 0.0

    def offer(self, work: Work, now: float) -> Reason | None:
        """Let work wait for its turn; a reason says that it never gets one."""
        endpoint = work.endpoint
        name = self._operator_of(endpoint.mx_host)
        operator = self._operators.setdefault(name, _Operator())
        if operator.stopped:
            return Reason.OPERATOR_STOPPED
        address = self._addresses.setdefault(endpoint.address, _Address(name))
        if work.not_before is not None:
            due = work.not_before.timestamp()
            if due - now > self.limits.interval:  # put off by a refusal, not by spacing
                address.parked_until = max(address.parked_until, due)
            else:
                address.free_at = max(address.free_at, due)
        address.waiting.append(work)
        self.waiting += 1
        self._queue(endpoint.address, address)
        return None

    def take(self, now: float) -> list[Work]:
        """The work that may start now; it counts as started."""
        self._tokens.refill(now)
        self._sweep(now)
        started = []
        while (
            self.active < self.limits.concurrency
            and self._tokens.level >= 1
            and self._heap
            and self._heap[0][0] <= now
        ):
            at, _, name = heapq.heappop(self._heap)
            operator = self._operators.get(name)
            if operator is None or at != operator.queued_at:
                continue
            operator.queued_at = None
            address = self._next_address(operator, now)
            if address is not None:
                started.append(self._start(address, now))
            self._queue_operator(name)
        return started

    def recall(self, mx_host: str, blocked: int) -> None:
        """An earlier run heard from this MX host so often that we are blocked."""
        operator = self._operators.setdefault(self._operator_of(mx_host), _Operator())
        operator.blocked += blocked
        operator.stopped = operator.blocked > 1

    def finish(self, work: Work, observation: Observation, now: float) -> Aftermath:
        """An attempt is over: what its end says is heeded, and its slots are free."""
        aftermath = self.heed(work, observation, now)
        self.abandon(work, now)
        return aftermath

    def heed(self, work: Work, observation: Observation, now: float) -> Aftermath:
        """Park or stop what the end of an attempt says; its slots are kept until `abandon` frees them."""
        address = self._addresses[work.endpoint.address]
        operator = self._operators[address.operator]
        operator.blocked += says_blocked(observation)
        if operator.stopped:  # while this session was under way: nothing waits there any more
            return Aftermath()
        if operator.blocked > 1:
            return self._stop(address.operator)
        return Aftermath(parked=self._park(work, address, observation, now) if is_refusal(observation) else ())

    def drop_waiting(self) -> None:
        """Forget all work that waits; what addresses and operators are owed stays."""
        for address in self._addresses.values():
            address.waiting.clear()
        self.waiting = 0

    def abandon(self, work: Work, now: float) -> None:
        """Free the slots of an attempt that was heeded, was not made after all, or means nothing for others."""
        address = self._addresses[work.endpoint.address]
        self._release(address, now)
        self._queue(work.endpoint.address, address)

    def wake_at(self, now: float) -> float | None:
        """When `take` may next have something though no attempt ends; None: only an end can change that."""
        self._drop_stale()
        if not self._heap or self.active >= self.limits.concurrency:
            return None
        return max(self._heap[0][0], now + self._tokens.wait(now))

    def all_parked(self, now: float) -> bool:
        """Whether nothing runs and everything that waits was put off by a refusal."""
        if self.active:
            return False
        return all(a.parked_until > now for a in self._addresses.values() if a.waiting)

    def _start(self, address: _Address, now: float) -> Work:
        operator = self._operators[address.operator]
        work = address.waiting.popleft()
        address.active += 1
        operator.active += 1
        operator.next_start = now + self.limits.operator_spacing
        self._tokens.level -= 1
        self.active += 1
        self.waiting -= 1
        if address.waiting and address.active < self.limits.per_address:
            self._queue(work.endpoint.address, address)
        return work

    def _release(self, address: _Address, now: float) -> None:
        self.active -= 1
        address.active -= 1
        self._operators[address.operator].active -= 1
        address.free_at = max(address.free_at, now + self.limits.interval)

    def _park(self, work: Work, address: _Address, observation: Observation, now: float) -> tuple[Work, ...]:
        address.refusals = max(address.refusals + 1, work.attempt)  # a further attempt: an earlier run was refused
        pause = PARK_SECONDS[min(address.refusals, len(PARK_SECONDS)) - 1]
        address.parked_until = now + pause * (1 + self._jitter() / 4)
        not_before = datetime.fromtimestamp(address.parked_until, UTC)
        if observation.status is not Status.MEASURED and work.attempt < self.limits.max_attempts:
            address.waiting.append(replace(work, attempt=work.attempt + 1))
            self.waiting += 1
        address.waiting = deque(replace(waiting, not_before=not_before) for waiting in address.waiting)
        return tuple(address.waiting)

    def _stop(self, name: str) -> Aftermath:
        self._operators[name].stopped = True
        stopped: list[Work] = []
        for address in self._addresses.values():
            if address.operator == name:
                stopped.extend(address.waiting)
                address.waiting.clear()
        self.waiting -= len(stopped)
        return Aftermath(stopped=tuple(stopped))

    def _queue(self, key: str, address: _Address) -> None:
        """Enter an address in its operator, and the operator in the heap, where both could start something."""
        if address.waiting and address.active < self.limits.per_address:
            heapq.heappush(self._operators[address.operator].ready, (address.at, next(self._tie), key))
        self._queue_operator(address.operator)

    def _queue_operator(self, name: str) -> None:
        operator = self._operators[name]
        if operator.stopped or not operator.ready or operator.active >= self.limits.per_operator:
            return
        at = max(operator.ready[0][0], operator.next_start)
        if operator.queued_at is None or at < operator.queued_at:
            operator.queued_at = at
            heapq.heappush(self._heap, (at, next(self._tie), name))

    def _drop_stale(self) -> None:
        """Pop heap entries that an earlier one of the same operator has replaced."""
        while self._heap:
            at, _, name = self._heap[0]
            operator = self._operators.get(name)
            if operator is not None and operator.queued_at == at:
                return
            heapq.heappop(self._heap)

    def _next_address(self, operator: _Operator, now: float) -> _Address | None:
        """The operator's next address that may start now; stale entries on the way are dropped."""
        if operator.stopped or operator.active >= self.limits.per_operator or operator.next_start > now:
            return None
        while operator.ready and operator.ready[0][0] <= now:
            key = heapq.heappop(operator.ready)[2]
            address = self._addresses.get(key)
            if address is None or not address.waiting or address.active >= self.limits.per_address:
                continue
            if address.at <= now:
                return address
            heapq.heappush(operator.ready, (address.at, next(self._tie), key))
        return None

    def _sweep(self, now: float) -> None:
        """Forget addresses and operators that hold nothing back any more, so that memory follows what is open."""
        if now - self._swept_at < max(self.limits.interval, 30.0):
            return
        self._swept_at = now
        idle = [key for key, a in self._addresses.items() if not a.active and not a.waiting and a.at <= now]
        for key in idle:
            del self._addresses[key]
        used = {a.operator for a in self._addresses.values()}
        for name in [n for n, o in self._operators.items() if n not in used and not o.stopped and not o.blocked]:
            del self._operators[name]


def is_refusal(observation: Observation) -> bool:
    """Whether the server asked for a pause: a 4xx, or an abrupt end before there was a certificate.

    A server that insists on a client certificate also ends the session with a 4xx or a drop; that is its answer
    to the question, not a request to come later.
    """
    if observation.client_auth is ClientAuth.REQUIRED:
        return False
    if observation.failure is Failure.NEGATIVE_REPLY:
        return observation.reply_code is not None and 400 <= observation.reply_code < 500
    return observation.failure in {Failure.RESET, Failure.CLOSED} and observation.status is not Status.MEASURED


def says_blocked(observation: Observation) -> bool:
    """Whether the server refused us, before TLS, with words that mean a block list."""
    if observation.failure is not Failure.NEGATIVE_REPLY:
        return False
    return means_blocked(observation.stage, f"{observation.greeting or ''} {observation.detail}")


def means_blocked(stage: Stage, text: str) -> bool:
    """Whether a negative reply at `stage` with `text` means a block list."""
    return stage in _EARLY_STAGES and _BLOCKED.search(text) is not None
