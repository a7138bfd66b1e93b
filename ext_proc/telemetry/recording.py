"""Metrics of the recording of calls."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.recording.recording import Recording


class RecordingReport(Collector):
    """What was taken down, and what was lost."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        recorder = self._recording.recorder
        yield CounterMetricFamily("tbms_recorded_calls", "Calls taken down for the recording.", recorder.recorded)
        yield CounterMetricFamily(
            "tbms_recording_dropped",
            "Calls not taken down: too many waited, or no model has that name.",
            recorder.dropped,
        )
        yield CounterMetricFamily(
            "tbms_recording_failures", "Writes of the recording that failed.", self._recording.failures
        )
