"""What the model cache of a node holds and did, as metrics: by state and outcome, never by name."""

import math
from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.telemetry.tallies import Spread
from mesh.model_cache.books.states import ModelState, Room
from mesh.model_cache.loads.stages import LoadEnd
from mesh.model_cache.manager import Manager

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class CacheReport(Collector):
    """Of a manager, read when somebody asks. One for a manager: it hears of every load."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._loads = Spread(
            "tbms_cache_load_seconds", "From the first call for a model until it is there.", [], _SECONDS
        )
        manager.load_listeners.append(self._ended)

    def _ended(self, load: LoadEnd) -> None:
        if load.error is not None:
            return
        seconds = load.ended - load.begun
        self._loads.observe((), seconds)
        if load.traced:
            self._loads.exemplify((), seconds, load.traced[0].trace_id)

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        manager, status = self._manager, self._manager.status()
        states = Counter(model.state for model in status.models)
        models = GaugeMetricFamily("tbms_cache_models", "Models on this node, by state.", labels=["state"])
        for state in ModelState:
            models.add_metric([str(state)], states[str(state)])
        yield models
        sessions = len(manager.sessions)  # each of them holds its model as a call in flight does
        in_flight = sum(model.in_flight for model in status.models) - sessions
        yield GaugeMetricFamily("tbms_cache_in_flight", "Calls in flight on models of this node.", in_flight)
        yield GaugeMetricFamily("tbms_cache_sessions", "Sessions that hold a model of this node.", sessions)
        waiting = sum(model.waiting for model in status.models)
        yield GaugeMetricFamily("tbms_cache_waiting_calls", "Calls that wait for a load.", waiting)
        told = "Calls that waited until their model was loaded."
        yield CounterMetricFamily("tbms_cache_cold_calls", told, manager.cold_calls)
        told = "Loads of models, by how they ended; those called off have failed."
        loads = CounterMetricFamily("tbms_cache_loads", told, labels=["outcome"])
        loads.add_metric(["available"], self._loads.count(()))
        loads.add_metric(["failed"], manager.failed_loads)
        yield loads
        yield from self._loads.collect()
        yield CounterMetricFamily("tbms_cache_unloads", "Models that left the model server.", manager.unloads)
        up = "1 where the model server answers."
        yield GaugeMetricFamily("tbms_cache_model_server_up", up, not status.server)
        told = "Models of which the store could not be asked the last time, or not fetched."
        yield GaugeMetricFamily("tbms_cache_store_failures", told, len(status.store))
        yield from _room("capacity", "Room of this node", status.capacity)
        yield from _room("free", "Room that is neither in use nor promised", status.free)


def _room(kind: str, told: str, room: Room) -> Iterable[Metric]:
    """A gauge of each kind of room; absent where it has no bound."""
    for name, what, amount in (
        (f"tbms_cache_{kind}_models", f"{told}, in models; absent without a bound.", room.models),
        (f"tbms_cache_{kind}_disk_bytes", f"{told}, on its disk; absent without a bound.", room.disk_bytes),
        (f"tbms_cache_{kind}_memory_bytes", f"{told}, in memory; absent without a bound.", room.memory_bytes),
    ):
        gauge = GaugeMetricFamily(name, what, labels=())
        if not math.isinf(amount):
            gauge.add_metric((), amount)
        yield gauge
