"""Calls that were to be raced, and were routed plainly, because their Envoy is too old for it."""

import logging
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.processing.request import Version
from ext_proc.telemetry.model_labels import OTHER
from ext_proc.telemetry.tallies import Tally
from ext_proc.wire.call import InferenceProtocol

logger = logging.getLogger(__name__)

_MOST_MINOR = 100


class Unbrokered(Collector):
    """Counts such calls, and says so in the log once for each Envoy version and kind of call (REST, gRPC)."""

    def __init__(self) -> None:
        self._calls = Tally(
            "tbms_calls_unbrokered",
            "Calls routed without their race: their Envoy cannot hold or answer them.",
            ["envoy", "protocol"],
        )
        self._told: set[tuple[str, bool]] = set()

    def count(self, envoy: Version, protocol: InferenceProtocol) -> None:
        """Counts one more call that is routed plainly on an Envoy of that version."""
        # A number that is no Envoy's would be a peer's own label.
        version = "{}.{}".format(*envoy) if envoy[0] == 1 and envoy[1] < _MOST_MINOR else OTHER
        self._calls.counts[version, protocol] += 1
        kind = (version, protocol.is_grpc)
        if kind not in self._told:
            self._told.add(kind)
            what = "gRPC" if protocol.is_grpc else "REST"
            cause = f"Envoy {version} cannot hold {what} calls for an answer of ours here; they are routed plainly"
            logger.warning("calls are not brokered", extra={"cause": cause, "envoy": version})

    def collect(self) -> Iterable[Metric]:
        """The metric of calls that are not raced, for prometheus-client."""
        return self._calls.collect()
