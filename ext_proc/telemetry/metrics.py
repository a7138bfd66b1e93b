"""Metrics, collected from plain counters: the hot path adds to a dict and never formats a label."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from ext_proc.telemetry.tallies import Spread
from ext_proc.wire.call import Call

# How a call ended for us.
ROUTED: Final = "routed"
PASSED: Final = "passed"
ANSWERED: Final = "answered"
REFUSED: Final = "refused"
CANCELLED: Final = "cancelled"
# Or that it went by the map, and we heard of it when it had ended.
KNOWN: Final = "known"
# What a decision waited for: nothing, the body that names the model, or what it is about (a race, a load, a batch).
NOTHING: Final = ("nothing",)
BODY: Final = ("body",)
WORK: Final = ("work",)

_DECISIONS: Final = (
    25e-6, 50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60
)  # fmt: skip


class Metrics(Collector):
    """The server's counters. Labels are protocol, verb and outcome; never a model's name, which has no bound."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        self.reloads: Counter[str] = Counter(taken=0, refused=0)  # Prometheus sees a counter grow that was there before
        self.streams = 0
        self.draining = False
        self.decisions = Spread(
            "tbms_decision_seconds",
            "Our own share of a call: from the first message of its stream to the decision, by what that waited for.",
            ["waited"],
            _DECISIONS,
        )

    def count(self, call: Call | None, outcome: str, calls: int = 1) -> None:
        """So many calls ended with `outcome`."""
        self.calls[(call.protocol, call.verb, outcome) if call else ("", "", outcome)] += calls

    def by_outcome(self) -> dict[str, int]:
        """How many calls ended how."""
        outcomes: Counter[str] = Counter()
        for (_, _, outcome), count in self.calls.items():
            outcomes[outcome] += count
        return dict(outcomes)

    def collect(self) -> Iterable[Metric]:
        """The metrics of calls, streams and reloads, for prometheus-client."""
        calls = CounterMetricFamily("tbms_calls", "Calls, by how they ended.", labels=["protocol", "verb", "outcome"])
        for key, count in self.calls.items():
            calls.add_metric(key, count)
        yield calls
        yield from self.decisions.collect()
        reloads = CounterMetricFamily("tbms_config_reloads", "Reloads of the configuration.", labels=["result"])
        for result, count in self.reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        yield GaugeMetricFamily("tbms_streams", "Streams from Envoy that are open.", self.streams)
        yield GaugeMetricFamily("tbms_draining", "1 from the signal to stop on.", self.draining)


PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"


def exposition(collectors: Iterable[Collector]) -> bytes:
    """The text that Prometheus scrapes."""
    return generate_latest(_registry(collectors))


def negotiated_exposition(collectors: Iterable[Collector], accept: str) -> tuple[bytes, str]:
    """The same as whoever sent that Accept header takes it, and its content type: only OpenMetrics has exemplars."""
    if "application/openmetrics-text" not in accept:
        return exposition(collectors), PLAIN
    text: bytes = openmetrics.generate_latest(_registry(collectors))  # type: ignore[no-untyped-call]
    return text, openmetrics.CONTENT_TYPE_LATEST


def _registry(collectors: Iterable[Collector]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return registry
