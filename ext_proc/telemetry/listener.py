"""Whether Envoy's connections can be accepted."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class ListenerReport(Collector):
    """A counter of `failures`: attempts to accept that found no file descriptor left."""

    def __init__(self, failures: Callable[[], int]) -> None:
        self._failures = failures

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        counter = CounterMetricFamily(
            "tbms_accept_failures", "Attempts to accept connections that found no file descriptor left.", labels=()
        )
        counter.add_metric((), self._failures())
        yield counter
