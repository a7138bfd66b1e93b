"""Messages as Envoy writes them, made and read with envoy-data-plane: a codec that is not ours."""

from dataclasses import dataclass
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import HeaderMap, HeaderValue, Metadata
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeBodySendMode
from envoy_data_plane.envoy.service.ext_proc.v3 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from envoy_data_plane.google.protobuf import Struct, Value

NONE, BUFFERED, FULL_DUPLEX = "NONE", "BUFFERED", "FULL_DUPLEX_STREAMED"
MODES = (NONE, BUFFERED, FULL_DUPLEX)


def _map(headers: dict[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=key, raw_value=value.encode()) for key, value in headers.items()])


def _told(name: str, value: str | None) -> dict[str, Struct]:
    return {} if value is None else {"envoy.filters.http.ext_proc": Struct(fields={name: Value(string_value=value)})}


def headers(values: dict[str, str], mode: str = NONE, end: bool = False, time: str | None = None) -> bytes:
    config = ProtocolConfiguration(request_body_mode=ProcessingModeBodySendMode[mode])
    request = HttpHeaders(headers=_map(values), end_of_stream=end)
    return bytes(
        ProcessingRequest(
            request_headers=request,
            metadata_context=Metadata(),
            protocol_config=config,
            attributes=_told("request.time", time),
        )
    )


def rest(path: str, mode: str = NONE, end: bool = False, **extra: str) -> bytes:
    named = {key.replace("_", "-"): value for key, value in extra.items()}
    method = "GET" if end else "POST"
    return headers({":method": method, ":path": path, "content-type": "application/json", **named}, mode, end)


def grpc(path: str, mode: str = NONE, end: bool = False, **extra: str) -> bytes:
    named = {key.replace("_", "-"): value for key, value in extra.items()}
    return headers({":method": "POST", ":path": path, "content-type": "application/grpc", **named}, mode, end)


def body(data: bytes, end: bool = False) -> bytes:
    return bytes(ProcessingRequest(request_body=HttpBody(body=data, end_of_stream=end)))


def trailers() -> bytes:
    return bytes(ProcessingRequest(request_trailers=HttpTrailers(trailers=_map({"x": "y"}))))


def response_headers(status: int = 200, end: bool = False, upstream: str | None = None, **extra: str) -> bytes:
    named = {key.replace("_", "-"): value for key, value in extra.items()}
    head = HttpHeaders(headers=_map({":status": str(status), **named}), end_of_stream=end)
    return bytes(ProcessingRequest(response_headers=head, attributes=_told("upstream.address", upstream)))


def response_trailers(**fields: str) -> bytes:
    named = {key.replace("_", "-"): value for key, value in fields.items()}
    return bytes(ProcessingRequest(response_trailers=HttpTrailers(trailers=_map(named))))


@dataclass(frozen=True)
class Reply:
    """One of our messages, read back."""

    message: ProcessingResponse

    @property
    def kind(self) -> str:
        if self.message.mode_override is not None:
            return "override"
        for kind in (
            "request_headers",
            "request_body",
            "request_trailers",
            "response_headers",
            "response_trailers",
            "immediate_response",
            "streamed_immediate_response",
        ):
            if getattr(self.message, kind) is not None:
                return kind
        return "nothing"

    @property
    def nodes(self) -> str | None:
        metadata = self.message.dynamic_metadata
        if metadata is None:
            return None
        fields: Any = metadata.to_dict()
        return str(fields["envoy.lb"]["tbms-nodes"])

    @property
    def removed(self) -> list[str]:
        reply = self.message.request_headers
        mutation = reply.response.header_mutation if reply and reply.response else None
        return list(mutation.remove_headers) if mutation else []

    @property
    def chunk(self) -> tuple[bytes, bool]:
        reply = self.message.request_body
        assert reply
        assert reply.response
        assert reply.response.body_mutation
        streamed = reply.response.body_mutation.streamed_response
        assert streamed is not None
        return streamed.body, streamed.end_of_stream


def read(replies: list[bytes]) -> list[Reply]:
    return [Reply(ProcessingResponse.parse(reply)) for reply in replies]
