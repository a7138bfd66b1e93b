"""MeshProxyPatch: what the Envoys of edges, nodes and gateways get beside what Kuma gives them.

The values are those of `ext_proc.envoy_config.parts`, as in a stand-alone Envoy. A patch is applied after every other
policy, so it has the last word.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Filter, Listener
from envoy_data_plane.envoy.config.route.v3 import RetryPolicy, VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerHcmAccessLogOptions,
    HttpFilter,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.google.protobuf import Any as Packed

from ext_proc.contract import NAMED_HEADER, NODE_HEADER
from ext_proc.envoy_config.bootstrap.egress import FarNode, batches_listener, candidates_listener
from ext_proc.envoy_config.bootstrap.routes import Clusters
from ext_proc.envoy_config.parts.access_log import RUNNING_SECONDS, calls_log
from ext_proc.envoy_config.parts.cluster_options import (
    CALLS_A_CONNECTION,
    HTTP_OPTIONS,
    LOST_SECONDS,
    http2,
    notice_lost_hosts,
)
from ext_proc.envoy_config.parts.filter import edge_filter, node_filter
from ext_proc.envoy_config.parts.grpc_names import grpc_name_filters, told_filter
from ext_proc.envoy_config.parts.headers import (
    AT_EDGES_ROUTER,
    AT_NODES_ROUTER,
    FROM_CLIENTS,
    FROM_EDGES,
    FROM_NODES,
    kept_from_clients,
    removed_on_arrival,
)
from ext_proc.envoy_config.parts.known import known_filter
from ext_proc.envoy_config.parts.override_host import override_host
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.parts.retries import (
    REST_READS,
    repeats_lost,
    retries_without_routes,
    retry_reads,
    retry_unprocessed,
    retry_unsent,
)
from ext_proc.envoy_config.parts.server_cluster import server_cluster
from ext_proc.envoy_config.parts.text import seconds, to_yaml
from ext_proc.envoy_config.parts.versions import BodyAccess, body_access
from ext_proc.kuma.rendering.commented_yaml import Because
from ext_proc.kuma.rendering.description import MeshDescription, Port, RemoteNode
from ext_proc.kuma.rendering.document import Document, of_dataplanes
from ext_proc.kuma.rendering.names import UNIFIED_NAME, Naming, inbound_cluster

_ROUTER = "envoy.filters.http.router"
_MANAGER = "envoy.filters.network.http_connection_manager"

# After this a connection without calls is closed: what Kuma's own options have, which the patch takes the place of.
_IDLE_SECONDS = 3600.0


def edge_patch(mesh: MeshDescription) -> Document:
    """The patch of every client's sidecar."""
    return Document(
        "MeshProxyPatch",
        "tbms-edge",
        f"The sidecars of clients: they ask the tbms server beside them (edge role) about calls to {mesh.service}, "
        "and send each call to the node that it names. Nothing else that these proxies do is touched.\n\nCosts: a "
        "plain call one exchange of headers with the server, over a Unix socket; a known call (where the map of "
        "known calls is on) some look-ups in Envoy; bodies stay in Envoy unless the call is raced, or only its body "
        "names the model.",
        {
            "targetRef": Because(
                of_dataplanes(mesh.edge_labels), "Only proxies with these labels; others never hear of the server."
            ),
            "default": {"appendModifications": [*_edge_modifications(mesh)]},
        },
    )


def node_patch(mesh: MeshDescription) -> Document:
    """The patch of every model server's sidecar."""
    return Document(
        "MeshProxyPatch",
        "tbms-node",
        "The sidecars of model servers: they ask the tbms server beside them (node role) to load the model before a "
        "call passes, and tell it when the reply has ended.\n\nCosts: one exchange of headers a call, and a stream "
        "that lasts as long as the call; a known call (where the map of known calls is on) some look-ups in Envoy. A "
        "proxy may be an edge or a node, not both: give clients that are model "
        "servers, too, a pod or a Dataplane of their own.",
        {
            "targetRef": Because(of_dataplanes(mesh.node_labels), "Only the model servers."),
            "default": {"appendModifications": [*_node_modifications(mesh)]},
        },
    )


def gateway_patch(mesh: MeshDescription, gateway: str) -> Document:
    """The patch of a gateway: of a builtin one, or (3.0) of the sidecar of a delegated one."""
    if not mesh.kuma.has_builtin_gateway:
        return Document(
            "MeshProxyPatch",
            "tbms-gateway",
            "The sidecar of a delegated gateway: what other clients' sidecars get. Where it should race calls or know "
            "them by the map, the tbms server stands beside it, as beside any client.",
            {
                "targetRef": Because(of_dataplanes((("app", gateway),)), "The gateway's own proxies."),
                "default": {"appendModifications": [*_edge_modifications(mesh)]},
            },
        )
    return Document(
        "MeshProxyPatch",
        "tbms-gateway",
        "A builtin gateway: it asks the tbms server beside it (edge role). Its routes come by RDS, which no patch "
        "reaches, so retries are said by request headers; its clusters have names that end in a hash, so every cluster "
        "of this gateway gets the balancing by named nodes, which without a named node is least-request.\n\n"
        "Candidates of races go out through the gateway's own plain HTTP listener: set server.egress of this edge to "
        "its address. The server tells its own calls by a secret.",
        {
            "targetRef": Because({"kind": "MeshGateway", "name": gateway}, "This gateway only."),
            "default": {"appendModifications": [*_gateway_modifications(mesh)]},
        },
    )


def _gateway_modifications(mesh: MeshDescription) -> Iterable[Any]:
    settings = mesh.envoy
    yield _server(mesh)
    yield Because(
        _patched_manager(
            {"origin": "gateway"},
            HttpConnectionManager(
                early_header_mutation_extensions=[removed_on_arrival((NODE_HEADER, NAMED_HEADER))],
                access_log=[calls_log()] if settings.accounts else [],
                local_reply_config=local_replies(),
            ),
        ),
        "What would choose a node or name a model is removed from what clients send. The other steering headers the "
        "server removes, since its own candidates come in here, too, and carry them.",
    )
    yield from _room_for_bodies(mesh, {"origin": "gateway"})
    for index, made in enumerate(retries_without_routes(settings.repeat_lost)):
        why = (
            "Another node is asked where a call was provably not processed, or the node says so."
            if not index
            else "And for calls that only read, where the node died under them."
        )
        yield Because(_before_router({"origin": "gateway"}, made), why)
    for made, why in _asking(mesh, grpc=True):
        yield Because(_before_router({"origin": "gateway"}, made), why)
    yield Because(
        _named_nodes({"origin": "gateway"}),
        "The node that the server or the map named gets the call; where none was named, the least busy one.",
    )


def _edge_modifications(mesh: MeshDescription) -> Iterable[Any]:
    settings = mesh.envoy
    yield _server(mesh)
    for port in mesh.ports:
        tags = {UNIFIED_NAME: mesh.kri(port)}
        where = f"{mesh.service}, port {port.name}"
        yield Because(
            _patched_manager(
                {"origin": "outbound", "listenerTags": tags},
                HttpConnectionManager(
                    early_header_mutation_extensions=[removed_on_arrival(FROM_CLIENTS)],
                    access_log=[calls_log()] if settings.accounts else [],
                    local_reply_config=local_replies(),
                ),
            ),
            f"{where}: headers that steer inside tbms are removed from what clients send, before the route is chosen "
            "and with the server away, too. The server is told of calls that have ended, one message for many; it is "
            "what known calls are counted by. Envoy's own errors get the form of the protocol. The listener is found "
            "by its tag, which is the same in both of Kuma's naming modes.",
        )
        yield from _room_for_bodies(mesh, {"origin": "outbound", "tags": tags})
        for made, why in (*_repeating(mesh, port), *_asking(mesh, grpc=port.protocol == "grpc")):
            yield Because(_before_router({"origin": "outbound", "listenerTags": tags}, made), why)
        yield Because(
            _virtual_host(
                {"origin": "outbound", "routeConfigurationName": mesh.kri(port)},
                VirtualHost(
                    request_headers_to_remove=list(AT_EDGES_ROUTER),
                    response_headers_to_remove=list(FROM_NODES),
                    include_request_attempt_count=True,
                    retry_policy=_retry_policy(mesh, port),
                    request_body_buffer_limit=settings.limits.body_buffer_bytes,
                ),
            ),
            f"{where}: another node is asked where a call was provably not processed, or the node says so. It holds "
            "for routes without a policy of their own: MeshRetry (tbms-retry) sees to it that they have none. A body "
            f"of up to {settings.limits.body_buffer_bytes >> 20} MiB is kept for another try. Steering headers end "
            "here.",
        )
        yield from _nodes_of(mesh, port)
    if not mesh.has_egress:
        return
    far = [FarNode(node.id, _edge_clusters(mesh, node)) for node in mesh.remote_nodes]
    egress = candidates_listener(settings, _edge_clusters(mesh), far)
    yield Because(
        {"listener": {"operation": "Add", "value": _text(egress)}},
        "Where the server sends candidates of races and batches of its own, so that they are calls of the mesh: "
        "mTLS, circuit breakers and telemetry of the clusters hold for them. A Unix socket in the folder that server "
        "and Envoy share: nobody else can call, so that Envoy reads the nodes itself and asks nobody. Its clusters "
        "are the mesh's own.",
    )


def _repeating(mesh: MeshDescription, port: Port) -> list[tuple[HttpFilter, str]]:
    if not mesh.envoy.repeat_lost or port.protocol != "grpc":
        return []
    why = (
        "Calls that only read are asked again where the node died under them (envoy.repeat_lost). Without this filter: "
        "only where the call provably never reached the model server. For gRPC, whose streams keep those retries."
    )
    return [(repeats_lost(), why)]


def _retry_policy(mesh: MeshDescription, port: Port) -> RetryPolicy:
    """REST has hardly a call that does not read: those are not worth a filter that each call would pay for."""
    if mesh.envoy.repeat_lost and port.protocol == "http":
        return retry_reads(REST_READS)
    return retry_unprocessed()


def _asking(mesh: MeshDescription, *, grpc: bool) -> list[tuple[HttpFilter, str]]:
    """The filters of an edge in their order, and what each is for; with `grpc` those that only gRPC calls need."""
    settings, version = mesh.envoy, mesh.kuma.envoy
    found: list[tuple[HttpFilter, str]] = []
    found.append((kept_from_clients(), "Takes the nodes' word on models off replies, once the server has seen it."))
    if mesh.known is not None and grpc:
        whole, named = grpc_name_filters(settings.limits.named_message_bytes)
        found += [
            (whole, "gRPC calls whose headers do not name the model: waits for the one message."),
            (named, "Reads the model's name where it is certain, by a short script."),
        ]
    if mesh.known is not None:
        why = (
            "Calls that need no decision: the file, which the server writes, says which nodes have the model. THE FILE "
            "MUST BE THERE WHEN THE SIDECAR READS THIS LISTENER, or Envoy refuses the whole listener: see README.md. "
            "After that it may change, and the server may go."
        )
        found.append((known_filter(mesh.known), why))
    if mesh.known is not None and grpc:
        found.append((told_filter(), "Tells nodes with the node role the model of a known call."))
    found.append(
        (
            edge_filter(settings, version, known=mesh.known is not None),
            f"The server is asked (Envoy {version}): of most calls it sees the headers, and without it they go on to "
            "any healthy node; only races and gRPC calls that no header names need their bodies, and wait for it.",
        )
    )
    return found


def _nodes_of(mesh: MeshDescription, port: Port) -> Iterable[Any]:
    """The cluster of one port of the service: by both of its names where a proxy may have either."""
    for naming in Naming:
        if naming is Naming.LEGACY and not mesh.kuma.has_legacy_names:
            continue
        also = (
            " (proxies that name their resources by KRI)" if naming is Naming.KRI and mesh.kuma.has_legacy_names else ""
        )
        yield Because(
            _named_nodes({"origin": "outbound", "name": mesh.cluster(port, naming)}, _between_sidecars()),
            f"{mesh.service}, port {port.name}{also}: the node that the server or the map named gets the call; where "
            "none was named, the least busy one. It takes the place of a MeshLoadBalancingStrategy for this service. "
            f"A connection carries {CALLS_A_CONNECTION} calls: Envoy closes one on which more were reset early, as "
            "the losers of races are, and with it the calls of others. A host that is lost without a word is given "
            f"up after {LOST_SECONDS} s of silence: its calls would wait for a quarter of an hour, or for ever.",
        )


def _node_modifications(mesh: MeshDescription) -> Iterable[Any]:
    settings, known = mesh.envoy, mesh.known_at_nodes
    hold = mesh.hold_seconds
    if mesh.gathered is not None:
        hold += settings.limits.longest_tloc_seconds
    yield _server(mesh)
    yield Because(
        _patched_manager(
            {"origin": "inbound"},
            HttpConnectionManager(
                early_header_mutation_extensions=[removed_on_arrival(FROM_EDGES)],
                local_reply_config=local_replies(ask_elsewhere=True),
                access_log=[] if known is None else [calls_log(running=True)],
                access_log_options=None if known is None else _while_running(),
            ),
        ),
        "Callers may neither steer nor pass as this node's server. Where another node may serve the call, Envoy's own "
        "errors say so, and the caller's Envoy asks there."
        + (
            ""
            if known is None
            else " The server is told of known calls when they have ended, and of those that run: no model is unloaded "
            "under one. Other access logs of these listeners, too, get a line every "
            f"{RUNNING_SECONDS:g} s of a call that runs for longer."
        ),
    )
    if mesh.gathered is not None:
        yield from _room_for_bodies(mesh, {"origin": "inbound"})
    if known is not None:
        yield Because(
            _before_router({"origin": "inbound"}, known_filter(known)),
            "Calls for models that are there, as the file says, which the server writes: they pass without it. THE "
            "FILE MUST BE THERE WHEN THE SIDECAR READS THIS LISTENER, as on an edge. Behind RBAC, too, and before "
            "whatever waits for a body: a call passes when its headers come, or asks.",
        )
    asks = node_filter(mesh.kuma.envoy, hold, mesh.gathered, known=known is not None)
    yield Because(
        _before_router({"origin": "inbound"}, asks),
        "Right before the router, and so behind RBAC: callers whom MeshTrafficPermission denies never reach the "
        f"server. A call is held for {mesh.hold_seconds:g} s at most while its model is loaded. It is every HTTP "
        "inbound of these proxies; calls that are no inference cost an exchange of headers, and are left as they are.",
    )
    yield Because(
        _virtual_host(
            {"origin": "inbound"},
            VirtualHost(
                request_headers_to_remove=list(AT_NODES_ROUTER),
                retry_policy=retry_unsent(),
                request_body_buffer_limit=settings.limits.body_buffer_bytes,
            ),
        ),
        "No header of ours reaches the model server, with the server away, too. To the one model server a call is sent "
        "once more only where it provably never arrived.",
    )
    if mesh.gathered is not None:
        clusters = _node_clusters(mesh)
        yield Because(
            {"listener": {"operation": "Add", "value": _text(batches_listener(settings, clusters, hold))}},
            "Where the server sends batches to the model server.",
        )


def _server(mesh: MeshDescription) -> Any:
    value = server_cluster(mesh.socket, mesh.envoy.server_tls, mesh.envoy.limits.in_flight, mesh.kuma.envoy)
    return Because(
        {"cluster": {"operation": "Add", "value": _text(value)}},
        "The tbms server beside this Envoy. Nothing in here depends on nodes, models or zones, so that ordinary "
        "changes never touch it: a change of this cluster would cut every held call. It takes as many calls at once "
        "as may be held (Envoy's default, 1024, would shed them), a restart of the server is waited for, and after "
        "five seconds it counts as away, so that plain calls go on without it.",
    )


def _room_for_bodies(mesh: MeshDescription, match: dict[str, Any]) -> Iterable[Any]:
    """Envoy 1.36 applies the route's limit at the router, which is behind the filter that buffers."""
    if body_access(mesh.kuma.envoy) is not BodyAccess.BUFFERED:
        return
    limit = mesh.envoy.limits.body_buffer_bytes
    value = Listener(per_connection_buffer_limit_bytes=limit)
    yield Because(
        {"listener": {"operation": "Patch", "match": match, "value": _text(value)}},
        f"Envoy {mesh.kuma.envoy} buffers the bodies of REST calls that the server answers itself: up to "
        f"{limit >> 20} MiB a call (Envoy: 1 MiB), in memory of this proxy.",
    )


def _edge_clusters(mesh: MeshDescription, node: RemoteNode | None = None) -> Clusters:
    grpc, rest = mesh.port_of("grpc"), mesh.port_of("http")
    return Clusters(
        None if grpc is None else mesh.cluster(grpc, node=node),
        None if rest is None else mesh.cluster(rest, node=node),
    )


def _node_clusters(mesh: MeshDescription) -> Clusters:
    grpc, rest = mesh.port_of("grpc"), mesh.port_of("http")
    return Clusters(
        None if grpc is None else inbound_cluster(mesh.naming, grpc.name, grpc.behind),
        None if rest is None else inbound_cluster(mesh.naming, rest.name, rest.behind),
    )


def _before_router(match: dict[str, Any], made: HttpFilter) -> Any:
    return {
        "httpFilter": {"operation": "AddBefore", "match": {"name": _ROUTER, **match}, "value": _text(made)},
    }


def _named_nodes(match: dict[str, Any], http: HttpProtocolOptions | None = None) -> Any:
    value = Cluster(load_balancing_policy=override_host())
    notice_lost_hosts(value, by_http2=http is not None)
    if http is not None:
        value.typed_extension_protocol_options = {HTTP_OPTIONS: Packed.pack(http)}
    return {"cluster": {"operation": "Patch", "match": match, "value": _text(value)}}


def _between_sidecars() -> HttpProtocolOptions:
    """HTTP/2, as sidecars talk to each other for every service of HTTP or gRPC, with an end to each connection."""
    options = http2(most_calls=CALLS_A_CONNECTION)
    assert options.common_http_protocol_options is not None
    options.common_http_protocol_options.idle_timeout = seconds(_IDLE_SECONDS)
    return options


def _patched_manager(match: dict[str, Any], made: HttpConnectionManager) -> Any:
    value = Filter(name=_MANAGER, typed_config=Packed.pack(made))
    return {"networkFilter": {"operation": "Patch", "match": {"name": _MANAGER, **match}, "value": _text(value)}}


def _while_running() -> HttpConnectionManagerHcmAccessLogOptions:
    return HttpConnectionManagerHcmAccessLogOptions(access_log_flush_interval=seconds(RUNNING_SECONDS))


def _virtual_host(match: dict[str, Any], made: VirtualHost) -> Any:
    return {"virtualHost": {"operation": "Patch", "match": match, "value": _text(made)}}


class _Value:
    """A message as a key of a cache: equal messages have equal bytes."""

    __slots__ = ("key", "message")

    def __init__(self, message: betterproto2.Message) -> None:
        self.message = message
        self.key = (type(message).__name__, bytes(message))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.key == other.key


@lru_cache(maxsize=64)
def _written(value: _Value) -> str:
    return to_yaml(value.message)


def _text(message: betterproto2.Message) -> str:
    """The message as YAML. The same filter stands at each port of the service, and writing one takes a while."""
    return _written(_Value(message))
