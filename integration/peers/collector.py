"""A collector of OpenTelemetry's: takes spans over OTLP/HTTP, and keeps them as they were sent."""

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from integration.stack.ports import free_port


@dataclass(frozen=True, slots=True)
class SentSpan:
    """A span as it came. Ids are hexadecimal; times in ns since the epoch; links are (trace, span) ids."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    begun: int
    ended: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    failed: bool
    state: str


class Collector:
    """`async with`: listens on `address`; `spans` is all that has come, `tokens` what each service authorized it by."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.endpoint = f"http://{self.address}/v1/traces"
        self.spans: list[SentSpan] = []
        self.tokens: dict[str, str] = {}
        self._news = asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.post("/v1/traces", self._take)])
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> "Collector":
        await self._runner.setup()
        host, _, port = self.address.partition(":")
        await web.TCPSite(self._runner, host, int(port)).start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    def named(self, name: str, service: str = "") -> list[SentSpan]:
        """The spans of that name, of that service or of all."""
        return [span for span in self.spans if span.name == name and (not service or span.service == service)]

    def by_id(self, span: str) -> SentSpan | None:
        """The span of that id, once it has come."""
        return next((each for each in self.spans if each.id == span), None)

    async def until(self, condition: Callable[[], object], within: float = 60.0) -> None:
        """Returns once the condition holds. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        token = request.headers.get("authorization", "")
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: _value(each.value) for each in of_resource.resource.attributes}
            service = str(resource.get("service.name"))
            self.tokens[service] = token
            for of_scope in of_resource.scope_spans:
                self.spans += [_read(span, service) for span in of_scope.spans]
        self._news.set()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


def _read(span: trace_pb2.Span, service: str) -> SentSpan:
    return SentSpan(
        service,
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        {each.key: _value(each.value) for each in span.attributes},
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        span.trace_state,
    )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)
