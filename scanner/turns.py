"""Whose turn it is: of all addresses that wait, one whose operator and network prefix both have room.

An address belongs to an operator and, where prefixes are bounded, to a prefix; each is a `Group`. Waiting work
lies in its address, a waiting address in the `Cell` of its operator and prefix, a waiting cell in one group:
the one that has room later. A waiting group lies in one heap by the time at which it may next start something.
When its time has come its cells are looked at in turn: one whose other group has no room moves over to that
group and waits there, holding up nothing; else one of its addresses starts. So what may start does start,
nothing is asked again and again, and a step costs O(log n) for each cell that it touches. A cell keeps its
place in the order until it starts something.

Without bounds on prefixes an operator has one cell.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from scanner.ledger import Work


@dataclass(frozen=True, slots=True)
class Share:
    """What one group may have: sessions at once, and seconds between two starts."""

    at_once: int
    spacing: float


@dataclass(slots=True, eq=False)
class Group:
    """An operator or a network prefix; `blocked` counts how often an operator said that we are blocked.

    Nothing waits at a `stopped` operator: whoever stops it sees to that.
    """

    share: Share
    active: int = 0
    next_start: float = 0.0
    blocked: int = 0
    stopped: bool = False
    queued_at: float | None = None  # the time of its one valid entry in the heap
    ready: list[tuple[float, int, int, "Cell"]] = field(default_factory=list)  # (at, turn, tie, cell); may be stale

    def has_room_at(self) -> float:
        """When it may start something, if nothing starts before; infinite while only an end can change that."""
        return math.inf if self.active >= self.share.at_once else self.next_start

    def begin(self, now: float) -> None:
        self.active += 1
        self.next_start = now + self.share.spacing


@dataclass(slots=True, eq=False)
class Cell:
    """The addresses that an operator has in a prefix; `group` is where its one valid entry lies."""

    operator: Group
    prefix: Group | None
    turn: int
    group: Group | None = None
    queued_at: float = 0.0
    ready: list[tuple[float, int, "Address"]] = field(default_factory=list)  # (at, tie, address); may be stale


@dataclass(slots=True, eq=False)
class Address:
    """What waits for one address, and how long it has to."""

    cell: Cell
    active: int = 0
    free_at: float = 0.0
    parked_until: float = 0.0
    refusals: int = 0
    waiting: deque[Work] = field(default_factory=deque)

    @property
    def at(self) -> float:
        return max(self.free_at, self.parked_until)


class Turns:
    """See the module. Times are those of `scanner.pace`; what an address is owed is set on it by the caller."""

    def __init__(self, per_address: int, operator: Share, prefix: Share | None) -> None:
        self.operators: dict[str, Group] = {}
        self.prefixes: dict[str, Group] = {}
        self.cells: dict[tuple[str, str | None], Cell] = {}
        self._per_address = per_address
        self._operator = operator
        self._prefix = prefix
        self._heap: list[tuple[float, int, Group]] = []  # (at, tie, group); entries may be stale
        self._tie = count()

    def operator(self, name: str) -> Group:
        """The group of an operator."""
        group = self.operators.get(name)
        if group is None:
            group = self.operators[name] = Group(self._operator)
        return group

    def address(self, operator: str, prefix: str | None) -> Address:
        """A new address of an operator; without a prefix only the operator bounds it."""
        cell = self.cells.get((operator, prefix))
        if cell is None:
            within = None
            if prefix is not None and self._prefix is not None:
                within = self.prefixes.setdefault(prefix, Group(self._prefix))
            cell = self.cells[operator, prefix] = Cell(self.operator(operator), within, next(self._tie))
        return Address(cell)

    def queue(self, address: Address) -> None:
        """Something waits at the address, or waits for another time: enter it wherever it could start something."""
        if address.waiting and address.active < self._per_address:
            heapq.heappush(address.cell.ready, (address.at, next(self._tie), address))
        self._place(address.cell)

    def take(self, now: float) -> Work | None:
        """Work that may start now; it counts as started."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, group = heapq.heappop(heap)
            if group.queued_at != at:
                continue
            group.queued_at = None
            address = self._next_address(group, now)
            work = None if address is None else self._begin(address, now)
            self._queue_group(group)
            if work is not None:
                return work
        return None

    def release(self, address: Address, free_at: float) -> None:
        """A session is over; the next of its address may start at `free_at`."""
        address.active -= 1
        address.free_at = max(address.free_at, free_at)
        operator, prefix = address.cell.operator, address.cell.prefix
        operator.active -= 1
        if prefix is not None:
            prefix.active -= 1
            self._queue_group(prefix)
        self._queue_group(operator)
        self.queue(address)

    def next_at(self) -> float | None:
        """When something may start at the earliest, as far as is known; None: only an end can change that."""
        while self._heap and self._heap[0][2].queued_at != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def forget_all_but(self, addresses: Iterable[Address]) -> None:
        """Forget what none of these addresses needs, except for operators that said that we are blocked."""
        used: set[Cell | Group | None] = set()
        for cell in {address.cell for address in addresses}:
            used |= {cell, cell.operator, cell.prefix}
        self.cells = {key: cell for key, cell in self.cells.items() if cell in used}
        self.prefixes = {name: group for name, group in self.prefixes.items() if group in used}
        self.operators = {
            name: group for name, group in self.operators.items() if group in used or group.stopped or group.blocked
        }

    def _begin(self, address: Address, now: float) -> Work:
        work = address.waiting.popleft()
        address.active += 1
        cell = address.cell
        cell.turn = next(self._tie)
        cell.operator.begin(now)
        if cell.prefix is not None:
            cell.prefix.begin(now)
        self.queue(address)
        return work

    def _place(self, cell: Cell) -> None:
        """Enter a cell in a group: the one that has room later, or where it is already, if it is due sooner now."""
        if not cell.ready:
            return
        at = cell.ready[0][0]
        if cell.group is None:
            prefix, operator = cell.prefix, cell.operator
            later = prefix is not None and prefix.has_room_at() > operator.has_room_at()
            cell.group = prefix if later else operator
        elif at >= cell.queued_at:
            return
        assert cell.group is not None
        cell.queued_at = at
        heapq.heappush(cell.group.ready, (at, cell.turn, next(self._tie), cell))
        self._queue_group(cell.group)

    def _queue_group(self, group: Group) -> None:
        if not group.ready or group.active >= group.share.at_once:
            return
        at = max(group.ready[0][0], group.next_start)
        if group.queued_at is None or at < group.queued_at:
            group.queued_at = at
            heapq.heappush(self._heap, (at, next(self._tie), group))

    def _next_address(self, group: Group, now: float) -> Address | None:
        """The group's next address that may start now; what cannot is moved to where it has to wait."""
        if group.has_room_at() > now:
            return None
        while group.ready and group.ready[0][0] <= now:
            at, _, _, cell = heapq.heappop(group.ready)
            if cell.group is not group or cell.queued_at != at:
                continue
            cell.group = None
            other = cell.prefix if group is cell.operator else cell.operator
            if other is None or other.has_room_at() <= now:
                address = self._next_in(cell, now)
                if address is not None:
                    return address
            self._place(cell)
        return None

    def _next_in(self, cell: Cell, now: float) -> Address | None:
        """The cell's next address that may start now; stale entries on the way are dropped."""
        while cell.ready and cell.ready[0][0] <= now:
            address = heapq.heappop(cell.ready)[2]
            if not address.waiting or address.active >= self._per_address:
                continue
            if address.at <= now:
                return address
            heapq.heappush(cell.ready, (address.at, next(self._tie), address))
        return None
