"""The `envoy:` section of the configuration.

`FilterSettings` are those of its fields that hold in any Envoy, a mesh's sidecar included; `EnvoySettings` adds the
listeners, the admin interface and the endpoints of a stand-alone Envoy.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from mesh.address import parse_address
from mesh.settings import ModelName, Settings


def _listener(text: str) -> str:
    found = parse_address(text)
    if not found.path and found.ip is None:
        raise ValueError("a listener is written ip:port, [ipv6]:port or unix:/path")
    return text


def _local(text: str) -> str:
    if not parse_address(text).is_local:
        raise ValueError("only a loopback address or a Unix socket is allowed here")
    return text


Listener = Annotated[str, AfterValidator(_listener)]
LocalListener = Annotated[str, AfterValidator(_local)]


@dataclass(frozen=True, slots=True)
class GatheredCalls:
    """Which inference calls a node may gather beside those that ask to share a batch: all of `models`, or any."""

    models: tuple[str, ...] = ()
    any_model: bool = False


class ServerTls(Settings):
    """mTLS towards a server on another machine: PEM files, as Envoy finds them."""

    ca: str = Field(pattern="^/", description="The authority that signed the server's certificate.")
    certificate: str = Field(pattern="^/", description="Envoy's own certificate, for the server's `client_ca`.")
    key: str = Field(pattern="^/", description="The private key of that certificate.")
    name: str = Field(min_length=1, max_length=253, description="The DNS name in the server's certificate.")


class FilterLimits(Settings):
    """Bounds of the ext_proc filter, of what it buffers and of the clusters, in any Envoy."""

    body_buffer_bytes: int = Field(
        64 * 1024 * 1024,
        ge=65536,
        le=2**31 - 1,
        description="Body that Envoy keeps for another try, or (1.36) buffers for the server; per call: mind memory.",
    )
    named_message_bytes: int = Field(
        2**31,
        ge=65536,
        le=2**32 - 1,
        description="gRPC message that Envoy holds whole to read its model's name; no server reads one over 2 GiB.",
    )
    longest_tloc_seconds: float = Field(
        600.0, gt=0, le=86400, description="Longest time a call may be held; idle timeouts stay above it."
    )
    in_flight: int = Field(100_000, ge=1, le=2**31, description="Circuit breaker: calls at once, per cluster.")


class EnvoyLimits(FilterLimits):
    """Bounds of a stand-alone Envoy: those of the filter, and of the connections that it accepts."""

    streams: int = Field(10_000, ge=1, le=2**31 - 1, description="Calls at once on one HTTP/2 connection of a client.")
    connections: int = Field(50_000, ge=1, le=2**31, description="Connections from clients at once.")


class FilterSettings(Settings):
    """The ext_proc filter, the server's cluster and the retries: the settings of `ext_proc.envoy_config.parts`."""

    server_tls: ServerTls | None = Field(None, description="Needed where `server.tls` is set.")
    body_models: tuple[ModelName, ...] = Field(
        (),
        max_length=1000,
        description="Models with backups in the configuration, and stateful ones: the server needs their bodies.",
    )
    server_wait_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="How long a plain call waits for the server before it goes on to any node.",
    )
    watch_responses: bool = Field(
        False, description="Keep the server's stream until the response's headers, so that it counts calls in flight."
    )
    accounts: bool = Field(
        True,
        description="Tell the server of calls once they have ended: all known ones, and some others.",
    )
    repeat_lost: bool = Field(
        True,
        description="Ask another node when one dies under an inference. Turn it off where asking twice does harm.",
    )
    limits: FilterLimits = FilterLimits()


class EnvoyTracing(Settings):
    """Envoy's own spans of calls, beside those of the server (`tracing`): docs/tracing.md."""

    collector: str = Field(description="host:port of an OpenTelemetry collector that takes OTLP over plain HTTP.")
    sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the calls without a traceparent that are traced; others say so themselves.",
    )
    service_name: str = Field(
        "envoy", min_length=1, max_length=200, description="service.name of the spans, before the listener's name."
    )


class EnvoySettings(FilterSettings):
    """The `envoy:` section: a stand-alone Envoy, generated around the filter."""

    listen: Listener = Field("0.0.0.0:8080", description="Where clients call: HTTP/1.1, HTTP/2 and gRPC.")
    egress: LocalListener = Field(
        "127.0.0.1:8090",
        description="Where the server sends its own candidate calls. On a Unix socket Envoy need not ask it of them: "
        "races cost a quarter less. Who may open that socket (mode 0660) passes for the server.",
    )
    admin: LocalListener = Field("127.0.0.1:9901", description="Envoy's admin interface; it can stop Envoy.")
    direct_listen: LocalListener | None = Field(
        None, description="For benchmarks: a listener to the same nodes, or model server, without the server."
    )
    endpoints_dir: str | None = Field(
        None,
        pattern="^/",
        description="Folder of endpoint files that Envoy watches; without it the nodes are written into the bootstrap.",
    )
    health_seconds: float = Field(
        1.0, ge=0, le=3600, description="How often Envoy opens a connection to each node to see it alive; 0: never."
    )
    request_ids: bool = Field(True, description="Give calls an x-request-id if they have none.")
    upstream_header: bool = Field(False, description="Add x-tbms-upstream, the node that answered, to responses.")
    access_log: str | None = Field(None, pattern="^/", description="File of the access log, such as /dev/stdout.")
    tracing: EnvoyTracing | None = None
    limits: EnvoyLimits = EnvoyLimits()
