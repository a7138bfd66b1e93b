"""Whether the server's own calls can go out through Envoy's egress listener."""

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class EgressReport(Collector):
    """A gauge of `reachable`, which is None, and the gauge absent, for as long as no call has needed the listener."""

    def __init__(self, reachable: Callable[[], bool | None]) -> None:
        self._reachable = reachable

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        gauge = GaugeMetricFamily(
            "tbms_egress_reachable", "1 where calls of our own can go out; absent before any has.", labels=()
        )
        reachable = self._reachable()
        if reachable is not None:
            gauge.add_metric((), reachable)
        yield gauge
