"""What runs here: the version of tbms, its role, and the Python under it."""

import platform
from collections.abc import Iterable
from importlib import metadata

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class BuildInfo(Collector):
    """A gauge that is always 1: its labels say what runs, to be joined to other series by `instance`."""

    def __init__(self, role: str) -> None:
        self._labels = {
            "version": metadata.version("tbms"),
            "role": role,
            "python": platform.python_version(),
        }

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        info = GaugeMetricFamily("tbms_build_info", "1, with what runs here in its labels.", labels=list(self._labels))
        info.add_metric(list(self._labels.values()), 1)
        yield info
