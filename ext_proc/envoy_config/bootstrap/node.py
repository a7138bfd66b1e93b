"""The node's Envoy: one inbound listener in front of this machine's model server.

Calls wait in it until their model is loaded, and the server is told when each reply has ended, so that no model is
unloaded under a call. With a map of known calls (`known.file`) most calls are not asked about: docs/known-calls.md.
Without the server calls go on to the model server, which answers for what it holds. Only two
kinds of calls do not: those that change what is loaded, and, before Envoy 1.40, gRPC calls whose model only the body
names, since a filter that streams bodies cannot let a call pass by itself. See docs/decisions/055.

Where the node batches, the server also needs the bodies of calls that it may gather, and sends what it makes of them to
the model server by a second listener, `egress`, which asks nobody. See docs/decisions/049.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ext_proc.contract import NODE_LISTENER
from ext_proc.envoy_config.bootstrap.assembly import assembled
from ext_proc.envoy_config.bootstrap.clusters import node_clusters
from ext_proc.envoy_config.bootstrap.listeners import buffering, listener
from ext_proc.envoy_config.bootstrap.routes import node_routes
from ext_proc.envoy_config.parts.access_log import RUNNING_SECONDS, calls_log
from ext_proc.envoy_config.parts.filter import node_filter
from ext_proc.envoy_config.parts.headers import FROM_EDGES
from ext_proc.envoy_config.parts.known import known_filter
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.settings import EnvoySettings, GatheredCalls


@dataclass(frozen=True, slots=True)
class ModelServer:
    """The model server of this machine: `host:port` of its two APIs, and how long a model may take to load (seconds).

    `gathered` are the calls that may be batched, None where the node does not batch.
    """

    grpc: str
    rest: str
    hold_seconds: float
    gathered: GatheredCalls | None = None


def node_bootstrap(
    settings: EnvoySettings, *, version: str, server: str, models: ModelServer, known: str | None = None
) -> Bootstrap:
    """A node's bootstrap, as a typed message. Raises ConfigError as `render_node` does."""
    listeners = node_listeners(settings, version, models.hold_seconds, models.gathered, known)
    return assembled(settings, listeners, node_clusters(settings, server, version, grpc=models.grpc, rest=models.rest))


def node_listeners(
    settings: EnvoySettings,
    version: str,
    hold_seconds: float,
    gathered: GatheredCalls | None,
    known: str | None = None,
) -> list[Listener]:
    """The inbound listener, `models`, where calls are `gathered` `egress` for the server's own batches, and, for
    benchmarks, `direct` to the model server.

    `known` is the file of known calls. It stands first: what it lets pass is let pass when its headers come, or never.
    """
    if gathered is not None:  # after its load a call may wait for its batch, and that for the model
        hold_seconds += settings.limits.longest_tloc_seconds
    filters = [node_filter(version, hold_seconds, gathered, known=known is not None)]
    if known is not None:
        filters.insert(0, known_filter(known))
    inbound = _listener(NODE_LISTENER, settings.listen, settings, filters, hold_seconds, known is not None)
    found = [inbound]
    if gathered is not None:
        egress = _listener("egress", settings.egress, settings, [], hold_seconds)
        found = [buffering(inbound, settings, version), egress]
    if settings.direct_listen is not None:
        found.append(_listener("direct", settings.direct_listen, settings, [], hold_seconds))
    return found


def _listener(
    name: str,
    where: str,
    settings: EnvoySettings,
    filters: list[HttpFilter],
    hold_seconds: float,
    knows: bool = False,
) -> Listener:
    longest = max(settings.limits.longest_tloc_seconds, hold_seconds)
    routes, replies = node_routes(settings), local_replies(ask_elsewhere=True)
    calls = [calls_log(running=True)] if knows else []
    running = RUNNING_SECONDS if knows else None
    return listener(name, where, settings, filters, FROM_EDGES, routes, replies, longest, calls, running)
