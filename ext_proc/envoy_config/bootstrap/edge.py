"""The edge's Envoy: clients on one listener, the server's own calls on another, and the nodes behind both."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ext_proc.envoy_config.bootstrap.assembly import assembled
from ext_proc.envoy_config.bootstrap.clusters import edge_clusters
from ext_proc.envoy_config.bootstrap.listeners import buffering, listener
from ext_proc.envoy_config.bootstrap.routes import edge_routes
from ext_proc.envoy_config.parts.access_log import calls_log
from ext_proc.envoy_config.parts.filter import edge_filter
from ext_proc.envoy_config.parts.grpc_names import routed_name_filters
from ext_proc.envoy_config.parts.headers import FROM_ANYBODY, FROM_CLIENTS, FROM_SERVER, kept_from_clients
from ext_proc.envoy_config.parts.hop import nodes_of_hop_mark, retries_of_server
from ext_proc.envoy_config.parts.known import known_filter
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.settings import EnvoySettings
from mesh.address import parse_address
from mesh.node import Node


def edge_bootstrap(
    settings: EnvoySettings, *, version: str, server: str, nodes: Sequence[Node], known: str | None = None
) -> Bootstrap:
    """An edge's bootstrap, as a typed message. Raises ConfigError as `render` does."""
    listeners = edge_listeners(settings, version, known, nodes)
    return assembled(settings, listeners, edge_clusters(settings, server, nodes, version))


def edge_listeners(
    settings: EnvoySettings, version: str, known: str | None = None, nodes: Sequence[Node] = ()
) -> list[Listener]:
    """The listeners: `clients`, `egress` for the server's candidate calls, and `direct` to the nodes for benchmarks.

    Of `nodes` those of other zones get routes. `known` is the file of known calls, those of clients: candidate calls
    say of themselves where they go.
    On a TCP port anyone on the machine can call the egress, so that the server is asked whether a call is its own; a
    Unix socket has no other callers than those who may open it.
    """
    filters = [kept_from_clients()]
    if known is not None:
        filters += [*routed_name_filters(version), known_filter(known)]
    filters.append(edge_filter(settings, version, known=known is not None))
    reads_names = None if known is None else version
    clients = _listener("clients", settings.listen, settings, filters, FROM_CLIENTS, nodes, reads_names)
    clients = buffering(clients, settings, version)
    knows_caller = bool(parse_address(settings.egress).path)
    placing = [nodes_of_hop_mark(), retries_of_server()] if knows_caller else [edge_filter(settings, version)]
    removed = FROM_SERVER if knows_caller else FROM_ANYBODY
    found = [clients, _listener("egress", settings.egress, settings, placing, removed, nodes)]
    if settings.direct_listen is not None:
        found.append(_listener("direct", settings.direct_listen, settings, [], FROM_CLIENTS, ()))
    return found


def _listener(
    name: str,
    where: str,
    settings: EnvoySettings,
    filters: list[HttpFilter],
    removed: tuple[str, ...],
    nodes: Sequence[Node],
    reads_names: str | None = None,
) -> Listener:
    # The server takes the header off the answers of its own calls, and tells it in `tbms-answer`.
    routes = edge_routes(settings, nodes, settings.upstream_header or name == "egress", reads_names)
    hold = settings.limits.longest_tloc_seconds
    # What goes out at `egress` the server sees end by itself.
    calls = [calls_log()] if settings.accounts and name == "clients" else []
    return listener(name, where, settings, filters, removed, routes, local_replies(), hold, calls)
