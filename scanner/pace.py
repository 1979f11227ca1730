"""All waiting: which attempt may start now, and which must not start yet.

`Pacer` is a state machine without a clock: `offer` gives it work, `take` hands out what may start now, `finish`
tells it how an attempt ended. Six bounds hold at once, whatever order work comes in:

1. sessions in flight, all together (`concurrency`);
2. new connections a second, all together (`rate`), reached by a slow start;
3. sessions at once to one address (`per_address`), and `interval` seconds from the end of one to the start of the
   next;
4. sessions at once to one operator (`per_operator`), and 4 / `per_operator` seconds between two starts, so that the
   default of 4 means one new connection a second (never more than `interval`, which spaces single addresses);
5. if asked for, sessions at once to one network prefix (`per_prefix`; /24 for IPv4, /48 for IPv6), whoever its
   operators are, and 4 / `per_prefix` seconds between two starts;
6. an address that answered 4xx or dropped the connection is parked: everything that waits for it waits for
   15 minutes, then 2 hours, then a day, with jitter; an operator that says twice that we are blocked is left alone.

Whose turn it is, `scanner.turns` knows: a step costs O(log n) however much waits, and an operator with a million
hosts holds up nobody else.
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from scanner.addresses import network_prefix
from scanner.ledger import Work
from scanner.records import ClientAuth, Failure, Observation, Reason, Stage, Status
from scanner.turns import Address, Group, Share, Turns

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
    per_prefix: int | None = None  # None: prefixes have no bound of their own

    @property
    def operator_spacing(self) -> float:
        """Seconds between two starts at one operator."""
        return self.spacing(self.per_operator)

    def spacing(self, at_once: int) -> float:
        """Seconds between two starts at a group that may have so many sessions at once."""
        return min(self.interval, 4 / at_once)


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


class Pacer:
    """See the module. Times are seconds since the epoch; they come in as arguments and never go back."""

    def __init__(self, limits: Limits, operator_of: Callable[[str], str], jitter: Callable[[], float]) -> None:
        """`operator_of` maps an MX host to its operator; `jitter` gives a number in [0, 1)."""
        self.limits = limits
        self.waiting = 0
        self.active = 0
        self._operator_of = operator_of
        self._jitter = jitter
        self._addresses: dict[str, Address] = {}
        self._turns = Turns(
            limits.per_address,
            Share(limits.per_operator, limits.operator_spacing),
            None if limits.per_prefix is None else Share(limits.per_prefix, limits.spacing(limits.per_prefix)),
        )
        self._tokens = Tokens(limits.rate)
        self._swept_at = 0.0

    def offer(self, work: Work, now: float) -> Reason | None:
        """Let work wait for its turn; a reason says that it never gets one."""
        endpoint = work.endpoint
        name = self._operator_of(endpoint.mx_host)
        if self._turns.operator(name).stopped:
            return Reason.OPERATOR_STOPPED
        address = self._addresses.get(endpoint.address)
        if address is None:
            prefix = None if self.limits.per_prefix is None else network_prefix(endpoint.address)
            address = self._addresses[endpoint.address] = self._turns.address(name, prefix)
        if address.cell.operator.stopped:  # the address came with a name of another operator
            return Reason.OPERATOR_STOPPED
        if work.not_before is not None:
            due = work.not_before.timestamp()
            if due - now > self.limits.interval:  # put off by a refusal, not by spacing
                address.parked_until = max(address.parked_until, due)
            else:
                address.free_at = max(address.free_at, due)
        address.waiting.append(work)
        self.waiting += 1
        self._turns.queue(address)
        return None

    def take(self, now: float) -> list[Work]:
        """The work that may start now; it counts as started."""
        self._tokens.refill(now)
        self._sweep(now)
        started: list[Work] = []
        while self.active < self.limits.concurrency and self._tokens.level >= 1:
            work = self._turns.take(now)
            if work is None:
                break
            self._tokens.level -= 1
            self.active += 1
            self.waiting -= 1
            started.append(work)
        return started

    def recall(self, mx_host: str, blocked: int) -> None:
        """An earlier run heard from this MX host so often that we are blocked."""
        operator = self._turns.operator(self._operator_of(mx_host))
        operator.blocked += blocked
        operator.stopped = operator.blocked > 1

    def has_stopped(self, mx_host: str) -> bool:
        """Whether this host's own operator said twice that we are blocked; its address may have another's."""
        operator = self._turns.operators.get(self._operator_of(mx_host))
        return operator is not None and operator.stopped

    def finish(self, work: Work, observation: Observation, now: float) -> Aftermath:
        """An attempt is over: what its end says is heeded, and its slots are free."""
        aftermath = self.heed(work, observation, now)
        self.abandon(work, now)
        return aftermath

    def heed(self, work: Work, observation: Observation, now: float) -> Aftermath:
        """Park or stop what the end of an attempt says; its slots are kept until `abandon` frees them."""
        address = self._addresses[work.endpoint.address]
        operator = address.cell.operator
        operator.blocked += says_blocked(observation)
        if operator.stopped:  # while this session was under way: nothing waits there any more
            return Aftermath()
        if operator.blocked > 1:
            return self._stop(operator)
        return Aftermath(parked=self._park(work, address, observation, now) if is_refusal(observation) else ())

    def drop_waiting(self) -> None:
        """Forget all work that waits; what addresses and operators are owed stays."""
        for address in self._addresses.values():
            address.waiting.clear()
        self.waiting = 0

    def abandon(self, work: Work, now: float) -> None:
        """Free the slots of an attempt that was heeded, was not made after all, or means nothing for others."""
        self.active -= 1
        self._turns.release(self._addresses[work.endpoint.address], now + self.limits.interval)

    def wake_at(self, now: float) -> float | None:
        """When `take` may next have something though no attempt ends; None: only an end can change that."""
        at = self._turns.next_at()
        if at is None or self.active >= self.limits.concurrency:
            return None
        return max(at, now + self._tokens.wait(now))

    def all_parked(self, now: float) -> bool:
        """Whether nothing runs and everything that waits was put off by a refusal."""
        if self.active:
            return False
        return all(a.parked_until > now for a in self._addresses.values() if a.waiting)

    def _park(self, work: Work, address: Address, observation: Observation, now: float) -> tuple[Work, ...]:
        address.refusals = max(address.refusals + 1, work.attempt)  # a further attempt: an earlier run was refused
        pause = PARK_SECONDS[min(address.refusals, len(PARK_SECONDS)) - 1]
        address.parked_until = now + pause * (1 + self._jitter() / 4)
        not_before = datetime.fromtimestamp(address.parked_until, UTC)
        if observation.status is not Status.MEASURED and work.attempt < self.limits.max_attempts:
            address.waiting.append(replace(work, attempt=work.attempt + 1))
            self.waiting += 1
        address.waiting = deque(replace(waiting, not_before=not_before) for waiting in address.waiting)
        return tuple(address.waiting)

    def _stop(self, operator: Group) -> Aftermath:
        operator.stopped = True
        stopped: list[Work] = []
        for address in self._addresses.values():
            if address.cell.operator is operator:
                stopped.extend(address.waiting)
                address.waiting.clear()
        self.waiting -= len(stopped)
        return Aftermath(stopped=tuple(stopped))

    def _sweep(self, now: float) -> None:
        """Forget addresses and groups that hold nothing back any more, so that memory follows what is open."""
        if now - self._swept_at < max(self.limits.interval, 30.0):
            return
        self._swept_at = now
        idle = [key for key, a in self._addresses.items() if not a.active and not a.waiting and a.at <= now]
        for key in idle:
            del self._addresses[key]
        self._turns.forget_all_but(self._addresses.values())


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
