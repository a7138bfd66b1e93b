"""What runs here: the version of tbms, its role, the Python under it, and whether its hot rooms are compiled."""

import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ext_proc.processing import machine


def version() -> str:
    """The version of tbms."""
    return metadata.version("tbms")


def is_compiled() -> bool:
    """Whether this was built with TBMS_COMPILE=1: the rooms that every call passes are C."""
    return Path(machine.__file__).suffix != ".py"


class BuildInfo(Collector):
    """A gauge that is always 1: its labels say what runs, to be joined to other series by `instance`."""

    def __init__(self, role: str) -> None:
        self._labels = {
            "version": version(),
            "role": role,
            "python": platform.python_version(),
            "compiled": "yes" if is_compiled() else "no",
        }

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        info = GaugeMetricFamily("tbms_build_info", "1, with what runs here in its labels.", labels=list(self._labels))
        info.add_metric(list(self._labels.values()), 1)
        yield info
