"""Which session may begin now: what the ledger says of the address and the fleet of its operator, in a transaction.

The job's lock sees to it that one worker at a time asks about an address. The gate adds the interval, parking, and
what all workers together may do at an operator, and claims what may begin. It answers the questions of all jobs
that wait at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from mxcensus.fleet import tables
from mxcensus.fleet.batching import Batcher
from mxcensus.fleet.clock import Clock
from mxcensus.fleet.pace import PATIENCE, Operator
from scanner.ledger import Work
from scanner.pace import Limits
from scanner.records import Endpoint, Reason
from scanner.scan import Steps
from storage.database import Database
from storage.due import AddressWork, work_of_addresses
from storage.ledger import SqlLedger


@dataclass(frozen=True, slots=True)
class Go:
    """The session that may begin at `start`, claimed for then; `rest` is what waits at the address beside it."""

    work: Work
    rest: Sequence[Work]
    operator: str
    start: float
    refusals: int


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing may begin before `at`; `parked` where servers asked for that."""

    at: float
    parked: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The operator says that we are blocked: nothing of this ever begins."""

    works: Sequence[Work]


@dataclass(frozen=True, slots=True)
class Refused:
    """The next endpoint may not be contacted any more; the ledger does not know yet."""

    endpoint: Endpoint
    reason: Reason


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do at the address."""


Admission = Go | Later | Stopped | Refused | Done

GATHER_SECONDS = 0.1
"""How long a question waits for others: a session takes seconds, and a transaction for each cost half as much."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A holder wants to begin a session at an address."""

    holder: str
    address: str


@dataclass(frozen=True, slots=True)
class Leave:
    """A holder's session at an operator is over; `blocked` where the server said so. Answered by `Done`."""

    holder: str
    operator: str
    blocked: bool = False


class Gate:
    """The gate of one scan; `longest` is the longest session in seconds."""

    def __init__(
        self,
        database: Database,
        ledger: SqlLedger,
        scan_id: int,
        limits: Limits,
        longest: float,
        steps: Steps,
        clock: Clock,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._scan_id = scan_id
        self._limits = limits
        self._longest = longest
        self._steps = steps
        self._clock = clock
        self._batcher = Batcher[Ask | Leave, Admission](self._answer, GATHER_SECONDS)

    async def ask(self, holder: str, address: str) -> Admission:
        return await self._batcher.ask(Ask(holder, address))

    async def leave(self, holder: str, operator: str, *, blocked: bool = False) -> None:
        await self._batcher.ask(Leave(holder, operator, blocked))

    async def _answer(self, questions: Sequence[Ask | Leave]) -> Sequence[Admission]:
        return await self._database.run(lambda connection: self._decide(connection, questions))

    def _decide(self, connection: Connection, questions: Sequence[Ask | Leave]) -> list[Admission]:
        now = self._clock.seconds()
        asked = [question.address for question in questions if isinstance(question, Ask)]
        states = work_of_addresses(connection, self._scan_id, asked) if asked else {}
        wanted = {
            address: self._steps.operator_of(state.works[0].endpoint.mx_host)
            for address, state in states.items()
            if state.works and self._free_at(state) <= now + PATIENCE
        }
        names = {*wanted.values(), *(q.operator for q in questions if isinstance(q, Leave))}
        operators = tables.operators(connection, sorted(names)) if names else {}
        for question in questions:
            if isinstance(question, Leave):
                self._let_go(operators[question.operator], question, now)
        answers = [
            Done() if isinstance(q, Leave)
            else self._admit(q, states.get(q.address), operators.get(wanted.get(q.address, "")), now)
            for q in questions
        ]  # fmt: skip
        tables.store_operators(connection, operators.values())
        claims = [(a.work, datetime.fromtimestamp(a.start, UTC)) for a in answers if isinstance(a, Go)]
        self._ledger.claim_within(connection, claims)
        return answers

    def _free_at(self, state: AddressWork) -> float:
        at = state.free_at(self._limits.interval, self._longest)
        return 0.0 if at is None else at.timestamp()

    def _let_go(self, operator: Operator, question: Leave, now: float) -> None:
        if question.blocked and question.holder in operator.leases:  # counted once, however often it is said
            scan = str(self._scan_id)
            operator.blocked[scan] = operator.blocked.get(scan, 0) + 1
        operator.leave(question.holder, now)

    def _admit(self, ask: Ask, state: AddressWork | None, operator: Operator | None, now: float) -> Admission:
        if state is None or not state.works:
            return Done()
        free_at = self._free_at(state)
        if operator is None:
            return Later(free_at, parked=state.works[0].not_before is not None)
        if operator.is_stopped(self._scan_id):
            return Stopped(state.works)
        work, *rest = state.works
        reason = self._steps.refusal(work.endpoint)
        if reason is not None:
            return Refused(work.endpoint, reason)
        start = operator.enter(ask.holder, now, self._limits, self._longest)
        if start is None:
            return Later(operator.ticket(now, self._limits))
        return Go(work, rest, operator.name, max(start, free_at), state.refusals)
