"""The counters, as Prometheus reads them."""

import platform
from importlib import metadata
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec

from prometheus_client.parser import text_string_to_metric_families

from ext_proc.telemetry.build import BuildInfo
from ext_proc.telemetry.listener import ListenerReport
from ext_proc.telemetry.metrics import REFUSED, ROUTED, Metrics, exposition
from ext_proc.wire.call import Call, InferenceProtocol, Verb


def test_counters_come_out_with_their_labels() -> None:
    metrics = Metrics()
    call = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "m")
    metrics.count(call, ROUTED)
    metrics.count(call, ROUTED)
    metrics.count(None, REFUSED)
    metrics.reloads["taken"] += 1
    metrics.streams = 2
    text = exposition([metrics, ListenerReport(lambda: 3)]).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    calls = {
        (sample.labels["protocol"], sample.labels["verb"], sample.labels["outcome"]): sample.value
        for sample in families["tbms_calls"].samples
    }
    assert calls == {("tfs-rest", "predict", "routed"): 2.0, ("", "", "refused"): 1.0}
    assert families["tbms_accept_failures"].samples[0].value == 3.0
    assert families["tbms_streams"].samples[0].value == 2.0
    assert families["tbms_config_reloads"].samples[0].labels == {"result": "taken"}


def test_what_runs_is_told_in_labels() -> None:
    (family,) = text_string_to_metric_families(exposition([BuildInfo("node")]).decode())
    compiled = isinstance(find_spec("ext_proc.processing.machine").loader, ExtensionFileLoader)
    labels = {
        "version": metadata.version("tbms"), "role": "node", "python": platform.python_version(),
        "compiled": "yes" if compiled else "no",
    }  # fmt: skip
    assert [(sample.name, sample.labels, sample.value) for sample in family.samples] == [
        ("tbms_build_info", labels, 1.0)
    ]
