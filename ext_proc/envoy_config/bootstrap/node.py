"""The node's Envoy: one inbound listener in front of this machine's model server.

Calls wait in it until their model is loaded, and the server is told when each reply has ended, so that no model is
unloaded under a call. Without the server calls go on to the model server, which answers for what it holds. Only two
kinds of calls do not: those that change what is loaded, and, before Envoy 1.40, gRPC calls whose model only the body
names, since a filter that streams bodies cannot let a call pass by itself. See docs/decisions/055.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.listener.v3 import Listener

from ext_proc.envoy_config.bootstrap.assembly import assembled
from ext_proc.envoy_config.bootstrap.clusters import node_clusters
from ext_proc.envoy_config.bootstrap.listeners import listener
from ext_proc.envoy_config.bootstrap.routes import node_routes
from ext_proc.envoy_config.parts.filter import node_filter
from ext_proc.envoy_config.parts.headers import FROM_EDGES
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.settings import EnvoySettings


@dataclass(frozen=True, slots=True)
class ModelServer:
    """The model server of this machine: `host:port` of its two APIs, and how long a call may be held (seconds)."""

    grpc: str
    rest: str
    hold_seconds: float


def node_bootstrap(settings: EnvoySettings, *, version: str, server: str, models: ModelServer) -> Bootstrap:
    """A node's bootstrap, as a typed message. Raises ConfigError as `render_node` does."""
    inbound = node_listener(settings, version, models.hold_seconds)
    return assembled(settings, [inbound], node_clusters(settings, server, grpc=models.grpc, rest=models.rest))


def node_listener(settings: EnvoySettings, version: str, hold_seconds: float) -> Listener:
    """The inbound listener, `models`, in which a call may be held for `hold_seconds`."""
    longest = max(settings.limits.longest_tloc_seconds, hold_seconds)
    filters = [node_filter(version, hold_seconds)]
    routes, replies = node_routes(settings), local_replies(ask_elsewhere=True)
    return listener("models", settings.listen, settings, filters, FROM_EDGES, routes, replies, longest)
