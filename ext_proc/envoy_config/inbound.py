"""The node role's Envoy: one listener in front of this machine's model server.

Calls wait in it until their model is loaded, and the server is told when each reply has ended, so that no model is
unloaded under a call. Without the server calls go on to the model server, which answers for what it holds. Only two
kinds of calls do not: those that change what is loaded, and, before Envoy 1.40, gRPC calls whose model only the body
names, since a filter that streams bodies cannot let a call pass by itself. See docs/decisions/055.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeBodySendMode as BodyMode
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import HOP_HEADER, MODEL_HEADER, NODE_HEADER
from ext_proc.envoy_config.cluster_options import HTTP_OPTIONS, breakers, http1, http2
from ext_proc.envoy_config.clusters import GRPC_CLUSTER, REST_CLUSTER
from ext_proc.envoy_config.endpoints import assignment, discovery, given
from ext_proc.envoy_config.listeners import listener
from ext_proc.envoy_config.matching import all_of, any_of, matches, none_of, present, starts
from ext_proc.envoy_config.processor import CONTROL, NAMED_IN_BODY, OUTAGE_SECONDS, ProcessorBranch, chosen_by_headers
from ext_proc.envoy_config.replies import local_replies
from ext_proc.envoy_config.routes import node_routes
from ext_proc.envoy_config.server_cluster import server_cluster
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.envoy_config.text import seconds
from ext_proc.envoy_config.versions import BodyAccess, body_access


@dataclass(frozen=True, slots=True)
class ModelServer:
    """The model server of this machine: `host:port` of its two APIs, and how long a call may be held (seconds)."""

    grpc: str
    rest: str
    hold_seconds: float


def node_listeners(settings: EnvoySettings, version: str, models: ModelServer) -> list[Listener]:
    """The one listener. Nobody who calls it may steer, or pass as another node's server."""
    longest = max(settings.limits.longest_tloc_seconds, models.hold_seconds)
    filters = [node_filter(version, models.hold_seconds)]
    routes, replies = node_routes(settings), local_replies(ask_elsewhere=True)
    return [listener("models", settings.listen, settings, filters, (NODE_HEADER, HOP_HEADER), routes, replies, longest)]


def node_clusters(settings: EnvoySettings, server: str, models: ModelServer) -> list[Cluster]:
    """The model server by protocol, and the server. Raises ConfigError for an address that Envoy could not use."""
    return [
        _models(GRPC_CLUSTER, "node.cache.loader.address", models.grpc, settings, http2()),
        _models(REST_CLUSTER, "node.rest", models.rest, settings, http1()),
        server_cluster(settings, server),
    ]


def node_filter(version: str, hold_seconds: float) -> HttpFilter:
    """The HTTP filter for an Envoy of this version: right before the router, so behind what a mesh forbids."""
    closed = ProcessorBranch("closed", timeout=OUTAGE_SECONDS)
    # The first word of the server may take as long as a load.
    opened = ProcessorBranch("open", hold_seconds + OUTAGE_SECONDS, may_pass=True, replies=True, to_the_end=True)
    choices = [(matches(":path", CONTROL), closed)]
    if body_access(version) is not BodyAccess.OVERRIDE:
        body = BodyMode.FULL_DUPLEX_STREAMED
        stream = ProcessorBranch(
            "stream", OUTAGE_SECONDS, body, replies=True, to_the_end=True
        )  # no timer runs for its body
        is_grpc = starts("content-type", "application/grpc")
        in_body = any_of(*[starts(":path", prefix) for prefix in NAMED_IN_BODY])
        choices.append((all_of(is_grpc, none_of(present(MODEL_HEADER)), in_body), stream))
    return chosen_by_headers(choices, opened, version)


def _models(name: str, setting: str, where: str, settings: EnvoySettings, http: HttpProtocolOptions) -> Cluster:
    found = given(setting, where)
    return Cluster(
        name=name,
        type=discovery(found),
        connect_timeout=seconds(0.5),
        load_assignment=assignment(name, [found]),
        # No health check: there is nowhere else to go, and a server that listens again must be found at once.
        circuit_breakers=breakers(settings),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
    )
