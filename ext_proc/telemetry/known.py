"""Metrics of the map of known calls."""

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.known.keeper import MapKeeper


class KnownReport(Collector):
    """What the keeper has written, and whether Envoy has it."""

    def __init__(self, keeper: MapKeeper[Any]) -> None:
        self._keeper = keeper

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        keeper, written = self._keeper, self._keeper.written
        yield GaugeMetricFamily("tbms_known_models", "Models of the map.", 0 if written is None else written.models)
        yield GaugeMetricFamily("tbms_known_map_bytes", "Size of its file.", 0 if written is None else written.bytes)
        yield CounterMetricFamily("tbms_known_map_writes", "Files written.", keeper.writes)
        yield CounterMetricFamily("tbms_known_map_failures", "Files that could not be written.", keeper.failures)
        yield CounterMetricFamily("tbms_known_map_refused", "Files that Envoy has refused.", keeper.refused)
        taken = GaugeMetricFamily(
            "tbms_known_map_taken", "1 where Envoy has what the file says; absent where it cannot be asked.", labels=()
        )
        if keeper.taken is not None:
            taken.add_metric((), keeper.taken)
        yield taken
