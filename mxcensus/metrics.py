"""`scan --metrics HOST:PORT`: where a scan stands, for Prometheus.

Counting is a few additions a session; everything else happens in the thread that answers, when somebody asks. No
name or address of a server is in a metric. Anybody who reaches the port may read it, hence loopback by default.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from mxcensus.plan import BadPlan
from scanner.policy_records import StsPolicy
from scanner.records import Endpoint, Observation
from scanner.scan import Progress

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PHASES = ("route", "select", "probe", "policies")


class Metrics:
    """Counts what connections come to, and collects that and the scan's own progress for prometheus-client."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._octets = {"in": 0, "out": 0}
        self._milliseconds = 0
        self._cut_off = 0

    def ended(self, seen: Observation) -> None:
        """A session has ended."""
        failure = seen.failure.value if seen.failure else "none"
        self._ended[seen.status.value, seen.stage.value, failure] += 1
        self._octets["in"] += seen.octets_in
        self._octets["out"] += seen.octets_out
        self._milliseconds += seen.duration_ms

    def cut_off(self, _endpoint: Endpoint, _attempt: int, _started_at: datetime) -> None:
        """A session was cut off by the end of the scan."""
        self._cut_off += 1

    def fetched(self, _policy: StsPolicy) -> None:
        """Fetches are few; they are in the connection log."""

    def collect(self) -> "Iterator[Metric]":
        """What prometheus-client asks a collector for."""
        from prometheus_client.metrics_core import (  # noqa: PLC0415  # the extra `metrics`
            CounterMetricFamily,
            GaugeMetricFamily,
            SummaryMetricFamily,
        )

        progress = self._progress
        phase = GaugeMetricFamily("mxcensus_phase", "1 for the phase that the scan is in", labels=["phase"])
        for name in PHASES:
            phase.add_metric([name], float(name == progress.phase))
        yield phase
        yield CounterMetricFamily("mxcensus_domains_routed", "Domains resolved in this run", progress.domains)
        yield GaugeMetricFamily("mxcensus_sessions_in_flight", "Sessions under way", progress.in_flight)
        yield GaugeMetricFamily("mxcensus_work_waiting", "Endpoints that wait for their turn", progress.parked)
        stopped = len(progress.stopped_operators)
        yield GaugeMetricFamily("mxcensus_operators_stopped", "Operators that say that we are blocked", stopped)
        labels = ["status", "stage", "failure"]
        sessions = CounterMetricFamily("mxcensus_sessions", "Sessions that ended in this run", labels=labels)
        ended = self._ended.copy()
        for key, count in ended.items():
            sessions.add_metric(key, count)
        yield sessions
        yield CounterMetricFamily(
            "mxcensus_sessions_cut_off", "Sessions that a stop did not wait for", self._cut_off
        )
        octets = CounterMetricFamily("mxcensus_octets", "TCP payload of all sessions", labels=["direction"])
        for direction, count in self._octets.items():
            octets.add_metric([direction], count)
        yield octets
        yield SummaryMetricFamily(
            "mxcensus_session_seconds", "How long sessions took", ended.total(), self._milliseconds / 1000
        )


@contextmanager
def serving(address: tuple[str, int], progress: Progress) -> Iterator[Metrics]:
    """Answer `GET /metrics` at `address` until the context ends. Raises `BadPlan` where that cannot be."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  # the extra `metrics`
    except ImportError:
        raise BadPlan("--metrics needs the extra `metrics`: pip install 'mxcensus[metrics]'") from None
    host, port = address
    metrics = Metrics(progress)
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadPlan(f"--metrics {host}:{port}: {error.strerror}") from error
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
