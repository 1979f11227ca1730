"""What all workers together may do at one operator; pure.

`scanner.pace` keeps these bounds inside one process. Here they are numbers of one row that every worker changes in
its turn:

- a session may begin when a lease is free (`per_operator` of them) and the spacing since the last start has passed;
  a lease ends by itself after the longest session, should its worker have died;
- whoever has to wait gets a ticket: the time at which its turn is due. Tickets are as far apart as starts can be,
  so that the addresses of a large operator come one by one, each when it can start, and none asks in vain for long.

Times are seconds since the epoch, of the database's clock.
"""

from dataclasses import dataclass, field

from scanner.pace import Limits

PATIENCE = 2.0
"""Seconds that a job rather waits for its start than goes back to the queue."""

FIRST_GUESS = 3.0
_WEIGHT = 1 / 8


@dataclass(slots=True)
class Operator:
    """One operator as all workers share it.

    `leases` maps a holder to when its session begins and ends at latest; `session` is the mean length of a session;
    `blocked` counts, by scan, how often a server said that we are blocked.
    """

    name: str
    next_start: float = 0.0
    next_ticket: float = 0.0
    session: float = FIRST_GUESS
    leases: dict[str, tuple[float, float]] = field(default_factory=dict)
    blocked: dict[str, int] = field(default_factory=dict)

    def enter(self, holder: str, now: float, limits: Limits, longest: float) -> float | None:
        """When the holder's session may begin, within `PATIENCE`; None where it has to come again."""
        if holder in self.leases:  # the answer to an earlier question was lost
            return self.leases[holder][0]
        self.leases = {other: lease for other, lease in self.leases.items() if lease[1] > now}
        start = max(now, self.next_start)
        if len(self.leases) >= limits.per_operator or start - now > PATIENCE:
            return None
        self.leases[holder] = (start, start + longest)
        self.next_start = start + limits.operator_spacing
        return start

    def leave(self, holder: str, now: float) -> None:
        """A session ended, or was not begun."""
        lease = self.leases.pop(holder, None)
        if lease is not None:
            self.session += (max(0.0, now - lease[0]) - self.session) * _WEIGHT

    def ticket(self, now: float, limits: Limits) -> float:
        """When one that waits shall come (again); everybody gets another time."""
        at = max(now, self.next_ticket, self.next_start)
        self.next_ticket = at + max(limits.operator_spacing, self.session / limits.per_operator)
        return at

    def is_stopped(self, scan: int) -> bool:
        """Whether the operator said twice in this scan that we are blocked."""
        return self.blocked.get(str(scan), 0) > 1
