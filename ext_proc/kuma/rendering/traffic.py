"""What Kuma's own policies say about inference: timeouts, retries, breakers, and who may call."""

from typing import Any

from ext_proc.envoy_config.bootstrap.listeners import IDLE_MARGIN_SECONDS
from ext_proc.kuma.rendering.commented_yaml import Because
from ext_proc.kuma.rendering.description import MeshDescription
from ext_proc.kuma.rendering.document import Document, of_dataplanes, of_service

# How long a connection to a node may take. Nodes are near; a dead one is found by the next in the list.
CONNECT = "0.5s"


def timeouts(mesh: MeshDescription) -> list[Document]:
    """MeshTimeout, at callers and at nodes."""
    calls = mesh.envoy.limits.longest_tloc_seconds
    held = max(calls, mesh.hold_seconds) + (calls if mesh.gathered is not None else 0)
    at_edge = {
        "connectionTimeout": Because(CONNECT, "Kuma: 5s. A dead node costs a call this much before the next is asked."),
        "http": {
            "requestTimeout": Because(
                "0s", "Kuma: 15s, which would end long inferences. Limits are the caller's (tloc, gRPC deadline)."
            ),
            "streamIdleTimeout": Because(
                _duration(calls + IDLE_MARGIN_SECONDS),
                "While the server holds a call, nothing moves: more than the longest time limit "
                f"(envoy.limits.longest_tloc_seconds, {calls:g} s).",
            ),
        },
    }
    at_node = {
        "http": {
            "requestTimeout": Because("0s", "As Kuma has it; said here, so that no wider policy changes it."),
            "streamIdleTimeout": Because(
                _duration(held + IDLE_MARGIN_SECONDS),
                "A call is held while its model is loaded: more than that may take "
                f"(node.hold_seconds, {mesh.hold_seconds:g} s), and more than the longest time limit.",
            ),
        },
    }
    return [
        Document(
            "MeshTimeout",
            "tbms-edge",
            "How long callers wait for model servers: as long as they say themselves.",
            {"targetRef": of_dataplanes(mesh.edge_labels), "to": [{"targetRef": of_service(mesh), "default": at_edge}]},
        ),
        Document(
            "MeshTimeout",
            "tbms-node",
            "How long a call may wait at its node.",
            {"targetRef": of_dataplanes(mesh.node_labels), "rules": [{"default": at_node}]},
        ),
    ]


def retries(mesh: MeshDescription) -> list[Document]:
    """MeshRetry: none of Kuma's own, at callers and at a builtin gateway."""
    none = {
        "http": {
            "numRetries": Because(
                0,
                "Kuma: 5, on every 502, 503 and 504. A 503 that sheds load would come back five times, each a batch of "
                "GPU work. With 0 the route has no policy, and that of MeshProxyPatch tbms-edge holds: another node, "
                "and only where the call was provably not processed or the node says so.",
            )
        },
        "grpc": {
            "numRetries": Because(
                0,
                "Kuma: 5, on cancelled, unavailable and resource-exhausted, too: each loser of a race, which is "
                "cancelled, and each refusal would be sent again five times.",
            )
        },
    }
    found = [
        Document(
            "MeshRetry",
            "tbms-retry",
            "Takes the mesh's default retries off calls to model servers; the time broker is what hedges.",
            {"targetRef": of_dataplanes(mesh.edge_labels), "to": [{"targetRef": of_service(mesh), "default": none}]},
        )
    ]
    if mesh.gateway is not None:
        found.append(
            Document(
                "MeshRetry",
                "tbms-gateway-retry",
                "The same at the gateway, where the retries are those of MeshProxyPatch tbms-gateway. It holds for "
                "every route of this gateway: give one that also serves others a MeshRetry for their routes.",
                {"targetRef": _of_gateway(mesh), "to": [{"targetRef": _of_all(mesh), "default": none}]},
            )
        )
    return found


def breakers(mesh: MeshDescription) -> list[Document]:
    """MeshCircuitBreaker, at callers and at nodes."""
    limit = mesh.envoy.limits.in_flight
    limits = {
        "maxConnections": limit,
        "maxPendingRequests": limit,
        "maxRequests": limit,
        "maxRetries": limit,
    }
    why = (
        "Kuma: 1024 (retries: 3). Load is shed by the server and the nodes, who know which call can wait; a breaker "
        "that opens first would shed the calls that they mean to hold."
    )
    outliers = {
        "interval": Because("5s", "How often it is looked at."),
        "baseEjectionTime": Because("10s", "A node that comes back is wanted back soon; it grows with each ejection."),
        "maxEjectionPercent": Because(50, "Half of the nodes stay in any case."),
        "healthyPanicThreshold": Because(
            0, "Kuma's Envoy: 50. With most nodes ejected calls still go to those that are not, never to all."
        ),
        "splitExternalAndLocalErrors": Because(True, "A model's own 5xx is its answer, and no fault of the node."),
        "detectors": {
            "gatewayFailures": Because(
                {"consecutive": 5}, "502, 503 and 504: the node's Envoy lost its model server, or sheds load."
            ),
            "localOriginFailures": Because({"consecutive": 3}, "No connection, or one that broke."),
        },
    }
    return [
        Document(
            "MeshCircuitBreaker",
            "tbms-edge",
            "How many calls may be on their way to model servers, and which nodes are left out for a while. Only "
            "where nobody named a node: the node that the server or the map names is asked whatever Envoy thinks of "
            "it, since the server judges health itself. totalFailures is left out on purpose: a model that fails "
            "would eject GPUs.",
            {
                "targetRef": of_dataplanes(mesh.edge_labels),
                "to": [
                    {
                        "targetRef": of_service(mesh),
                        "default": {"connectionLimits": Because(limits, why), "outlierDetection": outliers},
                    }
                ],
            },
        ),
        Document(
            "MeshCircuitBreaker",
            "tbms-node",
            "How many calls a node's sidecar hands to its model server at once.",
            {
                "targetRef": of_dataplanes(mesh.node_labels),
                "rules": [{"default": {"connectionLimits": Because(limits, "Envoy: 1024. As above: the node sheds.")}}],
            },
        ),
    ]


def permissions(mesh: MeshDescription) -> list[Document]:
    """MeshTrafficPermission: the named callers, and nobody else."""
    about = (
        "Who may call model servers: the callers below, and nobody else whom no other MeshTrafficPermission allows. "
        "RBAC stands before the tbms server: whom it denies the server never hears of."
    )
    if mesh.kuma.has_identities:
        allowed: list[Any] = [
            {"spiffeID": {"type": "Exact", "value": f"spiffe://{mesh.domain}/{_workload(mesh, caller)}"}}
            for caller in mesh.callers
        ]
        spec: dict[str, Any] = {
            "targetRef": of_dataplanes(mesh.node_labels),
            "rules": [
                {"default": {"allow": Because(allowed, "Exact ids: a prefix would allow whatever comes to be.")}}
            ],
        }
    else:
        callers = [dict(mesh.edge_labels)]
        if mesh.gateway is not None:
            callers.append({"kuma.io/service": _gateway_service(mesh, mesh.gateway)})
        sources = [
            {"targetRef": {"kind": "MeshSubset", "tags": tags}, "default": {"action": "Allow"}} for tags in callers
        ]
        spec = {
            "targetRef": of_dataplanes(mesh.node_labels),
            "from": Because(
                sources, "By tags of the caller's Dataplane, which its mTLS certificate vouches for (Mesh.mtls)."
            ),
        }
    return [Document("MeshTrafficPermission", "tbms-callers", about, spec)]


def identities(mesh: MeshDescription) -> list[Document]:
    """MeshIdentity: mTLS by SPIFFE ids, which the permissions name. None where they go by tags."""
    if not mesh.kuma.has_identities:
        return []
    path = (
        "/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}"
        if mesh.on_kubernetes
        else '/workload/{{ label "kuma.io/workload" }}'
    )
    why = "What MeshTrafficPermission tbms-callers names."
    if not mesh.on_kubernetes:
        why += (
            " BEFORE THIS IS APPLIED every Dataplane of the mesh needs that label, and a token that says the same "
            "(kumactl generate dataplane-token --workload): the control plane lets no other proxy connect again."
        )
    spec = {
        "selector": Because(
            {"dataplane": {"matchLabels": {}}},
            "Every proxy: callers and nodes must trust each other, and what calls neither must not lose its way.",
        ),
        "spiffeID": {
            "trustDomain": Because(mesh.domain, "One for each zone, so that an id says where it was issued."),
            "path": Because(path, why),
        },
        "provider": {
            "type": "Bundled",
            "bundled": {
                "meshTrustCreation": Because("Enabled", "Proxies get the authority's certificate by MeshTrust."),
                "insecureAllowSelfSigned": Because(
                    True, "The authority is made by the control plane. Give it yours (`ca:`) where you have one."
                ),
                "certificateParameters": {"expiry": Because("24h", "Renewed long before.")},
                "autogenerate": {"enabled": True},
            },
        },
    }
    about = (
        "mTLS for the mesh. ONLY WHERE IT HAS NO IDENTITIES YET: with a MeshIdentity of your own leave this file out, "
        "and give `tbms policies render` your trust domain. Whether proxies that are not in the mesh may call is "
        "MeshTLS's affair."
    )
    return [Document("MeshIdentity", "tbms-identity", about, spec)]


def _workload(mesh: MeshDescription, caller: str) -> str:
    if not mesh.on_kubernetes:
        return f"workload/{caller}"
    namespace, _, account = caller.rpartition("/")
    return f"ns/{namespace or mesh.namespace}/sa/{account}"


def _gateway_service(mesh: MeshDescription, gateway: str) -> str:
    """The service tag of a builtin gateway's proxies, as Kuma's examples have it."""
    return f"{gateway}_{mesh.namespace}_svc" if mesh.on_kubernetes else gateway


def _of_gateway(mesh: MeshDescription) -> dict[str, Any]:
    if mesh.kuma.has_builtin_gateway:
        return {"kind": "MeshGateway", "name": mesh.gateway}
    return of_dataplanes((("app", mesh.gateway or ""),))


def _of_all(mesh: MeshDescription) -> Any:
    """Everything that a builtin gateway leads to: there a policy knows no service. Of a delegated one, the models."""
    return {"kind": "Mesh"} if mesh.kuma.has_builtin_gateway else of_service(mesh)


def _duration(seconds: float) -> str:
    return f"{seconds:g}s"
