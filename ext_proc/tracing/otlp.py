"""Spans as OpenTelemetry has them, sent by its own exporter: OTLP over HTTP. Nothing else here imports its packages."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from ext_proc.tracing.settings import TracingSettings
from ext_proc.tracing.tracer import Kind, Span
from mesh.trace_context import TraceContext

_KINDS = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}


class OtelExport:
    """Sends spans by one of OpenTelemetry's exporters; see `ext_proc.tracing.exporting.Export`.

    `resource` says who makes them; what OTEL_RESOURCE_ATTRIBUTES says is added to it.
    """

    def __init__(self, exporter: SpanExporter, resource: Mapping[str, str]) -> None:
        self._exporter = exporter
        self._resource = Resource.create(dict(resource))
        self._scope = InstrumentationScope("tbms", version("tbms"))

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether they have arrived."""
        return self._exporter.export([self._readable(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """A `send` that goes on is given up: it is not tried again."""
        self._exporter.shutdown()

    def _readable(self, span: Span) -> ReadableSpan:
        links: BoundedList[Link] = BoundedList.from_seq(None, [Link(_context(link)) for link in span.links])
        links.dropped = span.more_links
        trace = span.context
        parent = TraceContext(trace.trace_id, span.parent_id, trace.flags, trace.state) if span.parent_id else None
        return ReadableSpan(
            name=span.name,
            context=_context(trace),
            parent=None if parent is None else _context(parent),
            resource=self._resource,
            attributes={**span.attributes, "error.type": span.error} if span.error else span.attributes,
            links=links,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.begun,
            end_time=span.ended,
            instrumentation_scope=self._scope,
        )


def otlp_export(settings: TracingSettings, resource: Mapping[str, str], headers: Mapping[str, str]) -> OtelExport:
    """Sends spans to the collector of the settings."""
    exporter = OTLPSpanExporter(
        endpoint=settings.endpoint,
        certificate_file=None if settings.ca is None else str(settings.ca),
        headers=dict(headers),
        timeout=settings.timeout,
        compression=Compression.Gzip,
    )
    return OtelExport(exporter, resource)


def _context(span: TraceContext) -> SpanContext:
    state = TraceState.from_header([span.state]) if span.state else None
    return SpanContext(
        span.trace_id, span.span_id, is_remote=False, trace_flags=TraceFlags(span.flags), trace_state=state
    )
