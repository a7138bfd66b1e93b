"""Whether Envoy tells of calls that have ended."""

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class AccessLogReport(Collector):
    """A gauge of `streams`: access logs that are open."""

    def __init__(self, streams: Callable[[], int]) -> None:
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        told = "Access logs of Envoy that are open, one for each of its workers; without them known calls are not seen."
        yield GaugeMetricFamily("tbms_access_logs", told, self._streams())
