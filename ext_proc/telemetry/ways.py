"""Which ways calls went that asked an edge's server, and on what grounds."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.edge.ways import Ground, way_of


class WayReport(Collector):
    """Counts them; a step of the hot path. Calls that went by the map are not here: the server was not asked."""

    def __init__(self) -> None:
        self.counts: Counter[Ground] = Counter()

    def count(self, ground: Ground) -> None:
        """One more call goes its way on that ground."""
        self.counts[ground] += 1

    def by_way(self) -> dict[str, dict[str, int]]:
        """Calls by way and ground. Candidates of races are none of a client's, and left out."""
        found: dict[str, dict[str, int]] = {}
        for ground, calls in self.counts.items():
            if ground is not Ground.CANDIDATE:
                found.setdefault(way_of(ground).value, {})[ground.value] = calls
        return found

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        told = "Calls that asked the server, candidates of races included, by way and ground."
        family = CounterMetricFamily("tbms_ways", told, labels=["way", "ground"])
        for ground, calls in self.counts.items():
            family.add_metric([way_of(ground), ground], calls)
        yield family
