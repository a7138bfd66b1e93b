"""Spans as OpenTelemetry's own exporters get them, and what a configuration of them may say."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ext_proc.config import parse
from ext_proc.errors import ConfigError
from ext_proc.tracing.opening import open_tracing
from ext_proc.tracing.otlp import OtelExport
from ext_proc.tracing.settings import TracingSettings
from ext_proc.tracing.tracer import Kind, Span
from mesh.trace_context import TraceContext, read_context

CONTEXT = TraceContext(0xAB << 64, 0xCD, 3, "a=1")


def test_a_span_arrives_whole() -> None:
    exporter = InMemorySpanExporter()
    export = OtelExport(exporter, {"service.name": "tbms-edge"})
    links = (TraceContext(5, 6), TraceContext(7, 8))
    attributes = {"tbms.model": "m", "tbms.nodes": ("a", "b"), "tbms.rank": 1}
    sent = [
        Span("tbms.batch", CONTEXT, 0xEF, 10, 20, attributes, Kind.CLIENT, links, 3, "failed"),
        Span("tbms.hold", CONTEXT, 0, 1, 2, {}),
    ]
    assert export.send(sent)
    batch, hold = exporter.get_finished_spans()
    assert (batch.name, batch.start_time, batch.end_time, batch.kind) == ("tbms.batch", 10, 20, SpanKind.CLIENT)
    assert batch.context is not None
    assert batch.parent is not None
    assert (batch.context.trace_id, batch.context.span_id, batch.parent.span_id) == (0xAB << 64, 0xCD, 0xEF)
    assert (batch.context.trace_flags, dict(batch.context.trace_state)) == (3, {"a": "1"})
    assert batch.attributes == {**attributes, "error.type": "failed"}
    assert [(link.context.trace_id, link.context.span_id) for link in batch.links] == [(5, 6), (7, 8)]
    assert batch.dropped_links == 3
    assert batch.status.status_code is StatusCode.ERROR
    assert batch.resource.attributes["service.name"] == "tbms-edge"
    assert hold.parent is None
    assert hold.status.status_code is StatusCode.UNSET
    export.close()


@given(st.lists(st.from_regex(r"[a-z0-9@]{1,3}=[ -~]{1,3}", fullmatch=True) | st.text(max_size=5), max_size=34))
def test_whatever_a_client_says_of_its_trace_nothing_of_it_gets_into_the_log(members: list[str]) -> None:
    found = read_context({"traceparent": f"00-{1:032x}-{2:016x}-01", "tracestate": ",".join(members)})
    assert found is not None
    told: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = told.append  # type: ignore[method-assign]
    logger = logging.getLogger("opentelemetry.trace.span")
    logger.addHandler(listener)
    try:
        exporter = InMemorySpanExporter()
        assert OtelExport(exporter, {}).send([Span("x", found, 0, 0, 1, {})])
    finally:
        logger.removeHandler(listener)
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert (span.context.trace_state.to_header(), told) == (found.state, [])


SECRET = "Bearer s3cr3t"


def settings(**more: object) -> TracingSettings:
    return TracingSettings.model_validate({"endpoint": "http://127.0.0.1:1/v1/traces", **more})


@pytest.mark.parametrize("text", [f"authorization {SECRET}", f"x: y\nbad name: {SECRET}", f"x: {SECRET}\u00e9", "x:"])
def test_a_file_of_headers_that_cannot_be_used_is_an_error_that_shows_nothing_of_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "headers"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"tracing\.headers_file") as caught:
        open_tracing(settings(headers_file=file), "edge", lambda: 0.0)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{}", "tracing.endpoint: Field required"),
        ('{endpoint: "http://me:s3cr3t@collector:4318/v1/traces"}', "tracing.endpoint"),
        ('{endpoint: "collector:4317"}', "tracing.endpoint"),
        ('{endpoint: "http://c:4318", sample_ratio: 1.5}', "tracing.sample_ratio"),
        ('{endpoint: "http://c:4318", headers_file: /nowhere}', ""),
    ],
)
def test_what_a_section_may_say(section: str, told: str) -> None:
    if not told:
        assert parse(f"tracing: {section}", "t.yaml").tracing is not None
        return
    with pytest.raises(ConfigError) as caught:
        parse(f"tracing: {section}", "t.yaml")
    assert told in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ext_proc.tracing.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(ConfigError, match=r"pip install 'tbms\[tracing\]'"):
        open_tracing(settings(), "edge", lambda: 0.0)


OFF = """
import sys
from pathlib import Path
from ext_proc.process.app import App
App(Path(sys.argv[1]))
print([name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "requests")])
"""


def test_where_it_is_off_nothing_of_it_is_imported(tmp_path: Path) -> None:
    config = tmp_path / "tbms.yaml"
    config.write_text('nodes: [{id: a, rest: "10.0.0.1:8501", models: [m]}]\n')
    done = subprocess.run([sys.executable, "-c", OFF, config], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "[]"
