"""Who is told of every connection that a scan makes: its log, its metrics, and whoever reads along."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Protocol

from mxcensus import connection_log, metrics
from mxcensus.plan import Plan
from scanner.policy_records import StsPolicy
from scanner.records import Endpoint, Observation
from scanner.scan import Progress


class Watcher(Protocol):
    """Told on the event loop, so it must not wait."""

    def ended(self, seen: Observation) -> None:
        """A session has ended."""

    def cut_off(self, endpoint: Endpoint, attempt: int, started_at: datetime) -> None:
        """A session was cut off by the end of the scan."""

    def fetched(self, policy: StsPolicy) -> None:
        """An MTA-STS policy host was asked; `policy.fetched_at` is when that ended."""


@contextmanager
def watching(plan: Plan, progress: Progress) -> Iterator[Sequence[Watcher]]:
    """The watchers that a plan asks for; one that cannot begin raises an error of one line before anything else."""
    with ExitStack() as stack:
        watchers: list[Watcher] = []
        if plan.connection_log is not None:
            watchers.append(stack.enter_context(connection_log.opened(plan.connection_log)))
        if plan.metrics is not None:
            watchers.append(stack.enter_context(metrics.serving(plan.metrics, progress)))
        yield watchers
