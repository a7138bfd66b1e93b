"""The sessions of an edge as metrics."""

from collections.abc import Callable, Iterable
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mesh.routing.sessions import SessionCounts


class SessionReport(Collector):
    """Of what `sessions` gives when it is asked: how many are live, and what became of all."""

    def __init__(self, sessions: Callable[[], tuple[int, SessionCounts]]) -> None:
        self._sessions = sessions

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        live, counts = self._sessions()
        yield GaugeMetricFamily("tbms_sessions", "Sessions that sit on a node.", live)
        yield CounterMetricFamily("tbms_sessions_opened", "Sessions that got a node.", counts.opened)
        closed = CounterMetricFamily("tbms_sessions_closed", "Sessions that are no more, by why.", labels=["why"])
        for why, count in asdict(counts).items():
            if why != "opened":
                closed.add_metric([why], count)
        yield closed
