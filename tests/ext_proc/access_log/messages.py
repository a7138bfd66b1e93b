"""Messages of the access log as Envoy writes them, by the classes of another library."""

from datetime import timedelta
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import Address, Metadata, SocketAddress
from envoy_data_plane.envoy.data.accesslog.v3 import (
    AccessLogCommon,
    AccessLogType,
    HttpAccessLogEntry,
    HttpRequestProperties,
    HttpResponseProperties,
)
from envoy_data_plane.envoy.service.accesslog.v3 import (
    StreamAccessLogsMessage,
    StreamAccessLogsMessageHttpAccessLogEntries,
    StreamAccessLogsMessageIdentifier,
)
from envoy_data_plane.google.protobuf import Struct

from ext_proc.contract import ACCESS_LOG_NAME


def entry(
    path: str = "/v1/models/bert:predict",
    *,
    model: str | None = None,
    key: str | None = "tbms-known",
    one_in: str | None = None,
    node: tuple[str, int] | None = ("10.0.0.1", 8501),
    status: int = 200,
    grpc_status: str | None = None,
    trailers_only: bool = False,
    first_ms: float | None = 1.0,
    whole_ms: float = 0.5,
    last_ms: float | None = 21.0,
    duration_ms: float = 22.0,
    kind: AccessLogType = AccessLogType.DownstreamEnd,
    nodes: str = "10.0.0.1:8501,10.0.0.2:8501",
) -> HttpAccessLogEntry:
    """One call. `key` is the metadata by which its nodes were named; times count from its arrival.

    `one_in` is what the map says where not all calls are told of.
    """
    by_map = {} if key != "tbms-known" else {key: nodes}
    if one_in is not None:
        by_map["one-in"] = one_in
    by_server = {} if key in (None, "tbms-known") else {key: nodes}
    said = {"envoy.lb": Struct.from_dict(by_server), "tbms": Struct.from_dict(by_map)}
    of_grpc = {} if grpc_status is None else {"grpc-status": grpc_status}
    return HttpAccessLogEntry(
        common_properties=AccessLogCommon(
            downstream_remote_address=_address("192.0.2.7", 50123),
            time_to_last_rx_byte=_ms(whole_ms),
            time_to_first_upstream_tx_byte=_ms(first_ms),
            time_to_last_upstream_rx_byte=_ms(last_ms),
            upstream_remote_address=None if node is None else _address(*node),
            upstream_cluster="models_rest",
            metadata=Metadata(filter_metadata={**said, "other": Struct.from_dict({"tbms-known": "forged"})}),
            duration=_ms(duration_ms),
            access_log_type=kind,
        ),
        request=HttpRequestProperties(
            path=path, user_agent="client/1", request_headers={} if model is None else {"x-tbms-model": model}
        ),
        response=HttpResponseProperties(
            response_code=status,
            response_headers=of_grpc if trailers_only else {},
            response_trailers={} if trailers_only else of_grpc,
        ),
    )


def message(*entries: HttpAccessLogEntry, name: str | None = ACCESS_LOG_NAME) -> bytes:
    """A message of these entries; the first of a stream where it has a name."""
    fields: dict[str, Any] = {"http_logs": StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(entries))}
    if name is not None:
        fields["identifier"] = StreamAccessLogsMessageIdentifier(log_name=name)
    return bytes(StreamAccessLogsMessage(**fields))


def _ms(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(microseconds=round(value * 1000))


def _address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))
