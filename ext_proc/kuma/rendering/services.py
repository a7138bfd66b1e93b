"""Services, routes and proxies: how calls find the model servers, in their zone and across zones."""

import json
import shlex
from typing import Any

from ext_proc.contract import NODE_HEADER
from ext_proc.kuma.rendering.commented_yaml import Because
from ext_proc.kuma.rendering.description import Labels, MeshDescription
from ext_proc.kuma.rendering.document import Document, of_dataplanes, of_service, service_labels

NODE_LABEL = "tbms-node"
"""The label of a node's Dataplane by which a MeshService of its own finds it."""

# Where kuma-sidecar finds the empty map.
_EMPTY_MAP = "/etc/tbms-map"

# A port that nothing listens on: a Dataplane without any inbound matches no policy at all.
RESERVED_PORT = 49151


def mesh_services(mesh: MeshDescription) -> list[Document]:
    """MeshServices of Universal. On Kubernetes Kuma makes them of Services."""
    if mesh.on_kubernetes:
        return []
    found = [
        _service(
            mesh,
            mesh.service,
            "The model servers of this zone as one service: whom clients call. Within the zone the server chooses "
            "among its endpoints.",
            mesh.node_labels,
        )
    ]
    for node in mesh.local_nodes:
        about = f"{node} alone, for clients of other zones: they see no endpoints of this zone, only services."
        found.append(_service(mesh, node, about, ((NODE_LABEL, node),)))
    return found


def node_routes(mesh: MeshDescription) -> list[Document]:
    """MeshHTTPRoute: to each node of another zone by the header that the server sets. None without such nodes."""
    if not mesh.remote_nodes:
        return []
    to = []
    for port in mesh.ports:
        target = of_service(mesh)
        to.append(
            {
                "targetRef": Because(target | {"sectionName": port.name}, f"Calls to port {port.name} of the service."),
                "rules": [_rule(mesh, node.id, node.zone, port.number) for node in mesh.remote_nodes],
            }
        )
    about = (
        f"Calls to nodes of other zones: the server names such a node in {NODE_HEADER}, and has the route chosen anew. "
        "One rule for each remote node; a call that no rule matches stays in its zone. A client's own header is "
        "removed before the route is chosen (MeshProxyPatch tbms-edge)."
    )
    spec = {"targetRef": of_dataplanes(mesh.edge_labels), "to": to}
    return [Document("MeshHTTPRoute", "tbms-nodes", about, spec)]


def dataplanes(mesh: MeshDescription) -> list[Document]:
    """Examples of Dataplanes, for Universal: a client's and a node's."""
    if mesh.on_kubernetes:
        return []
    return [_client(mesh), _node(mesh)]


def container_patches(mesh: MeshDescription) -> list[Document]:
    """ContainerPatches, for Kubernetes: the sidecar shares a folder with the server, and finds a map there."""
    if not mesh.on_kubernetes:
        return []
    mount = json.dumps({"name": "tbms", "mountPath": mesh.folder})
    found = [
        Document(
            "ContainerPatch",
            "tbms-socket",
            "The folder that kuma-sidecar shares with the tbms server of its pod: an emptyDir volume `tbms` of the "
            "pod. Pods name it in the annotation kuma.io/container-patches. A pod that names one which is not there "
            "is refused, so apply it first. Envoy runs as 5678: the server's group has to be that, its sockets are "
            "0660.",
            {"sidecarPatch": [_mounted(mount, "Read and write: Envoy makes egress.sock there.")]},
            in_zone=False,
        )
    ]
    if (laid := mesh.known or mesh.known_at_nodes) is not None:
        knowing = [
            (pods, patch)
            for pods, patch, known in (
                ("clients", "tbms-edge", mesh.known), ("model servers", "tbms-node", mesh.known_at_nodes),
            )
            if known is not None
        ]  # fmt: skip
        pods, patches = (" and ".join(words) for words in zip(*knowing, strict=True))
        lies, empty = shlex.quote(laid), f"{_EMPTY_MAP}/known.pb"
        script = f'[ -e {lies} ] || /busybox/cp {empty} {lies}; exec /usr/bin/kuma-dp "$@"'
        command = json.dumps(["/busybox/sh", "-c", script, "kuma-dp"])
        volume = json.dumps({"name": "tbms-map", "mountPath": _EMPTY_MAP, "readOnly": True})
        found.append(
            Document(
                "ContainerPatch",
                "tbms-known-map",
                f"For pods of {pods}, beside tbms-socket: an empty map of known calls lies in the folder before "
                "Envoy starts. kuma-sidecar starts before every container of the pod, so it copies the map itself, "
                "out of the ConfigMap volume `tbms-map` (key known.pb); the shell is that of kuma-dp's own image. "
                "Without the file Envoy would refuse the listeners of "
                f"MeshProxyPatch {patches}.",
                {
                    "sidecarPatch": [
                        _mounted(volume, "The empty map."),
                        Because(
                            {"op": "add", "path": "/command", "value": command},
                            "Copies it where there is none yet (a restarted sidecar keeps the one that is there), then "
                            "becomes kuma-dp with its own arguments.",
                        ),
                    ]
                },
                in_zone=False,
            )
        )
    return found


def _mounted(value: str, why: str) -> Because:
    return Because({"op": "add", "path": "/volumeMounts/-", "value": value}, why)


def _service(mesh: MeshDescription, name: str, about: str, labels: Labels) -> Document:
    selector: dict[str, Any] = {"dataplaneLabels": {"matchLabels": dict(labels)}}
    if not mesh.kuma.selects_by_labels:
        selector = {"dataplaneTags": dict(labels)}
    ports = [
        {"port": port.number, "targetPort": port.number, "name": port.name, "appProtocol": port.protocol}
        for port in mesh.ports
    ]
    spec = {
        "selector": Because(selector, "Every Dataplane with this."),
        "ports": Because(ports, "http or grpc, or there is no HTTP in the sidecar that could be patched."),
    }
    return Document("MeshService", name, about, spec, labels={"kuma.io/env": "universal"})


def _rule(mesh: MeshDescription, node: str, zone: str, port: int) -> dict[str, Any]:
    return {
        "matches": [
            {
                "path": {"type": "PathPrefix", "value": "/"},
                "headers": [{"name": NODE_HEADER, "type": "Exact", "value": node}],
            }
        ],
        "default": {
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [NODE_HEADER]}}],
            "backendRefs": [{"kind": "MeshService", "labels": service_labels(mesh, node, zone), "port": port}],
        },
    }


def _client(mesh: MeshDescription) -> Document:
    outbound = [
        {
            "port": 10000 + port.number % 10000,
            "backendRef": {"kind": "MeshService", "name": mesh.service, "port": port.number},
        }
        for port in mesh.ports
    ]
    inbound: dict[str, Any] = {"port": RESERVED_PORT, "name": "none"}
    if mesh.kuma.has_tags:
        inbound["tags"] = {"kuma.io/service": mesh.callers[0], "kuma.io/protocol": "tcp", **dict(mesh.edge_labels)}
    networking = {
        "address": Because("192.0.2.10", "This machine."),
        "inbound": Because(
            [inbound], "Not one that serves anything: a Dataplane without inbounds is matched by no policy at all."
        ),
        "outbound": Because(outbound, "Without transparent proxying: the client calls 127.0.0.1 at these ports."),
    }
    labels = dict(mesh.edge_labels) | {"kuma.io/workload": mesh.callers[0]}
    return Document(
        "Dataplane",
        "client-1",
        "Example: the sidecar of a client on a VM (kuma-dp run --dataplane-file). One for each client.",
        None,
        labels=labels,
        fields={"networking": networking},
        in_zone=False,
    )


def _node(mesh: MeshDescription) -> Document:
    name = mesh.local_nodes[0] if mesh.local_nodes else "node-a"
    inbounds = []
    for port in mesh.ports:
        inbound: dict[str, Any] = {
            "port": port.number,
            "servicePort": port.behind if port.server_port else port.number,
            "name": port.name,
        }
        if mesh.kuma.selects_by_labels:
            inbound["protocol"] = port.protocol
        if mesh.kuma.has_tags:
            service = mesh.service if port is mesh.ports[0] else f"{mesh.service}-{port.name}"
            tags = {"kuma.io/service": service, "kuma.io/protocol": port.protocol, **dict(mesh.node_labels)}
            if mesh.local_nodes:
                tags[NODE_LABEL] = name
            inbound["tags"] = tags
        inbounds.append(inbound)
    networking = {
        "address": Because(
            "192.0.2.21", "This machine, as others reach it. The server names nodes by this and the port."
        ),
        "inbound": Because(inbounds, "servicePort is where the model server itself listens, on 127.0.0.1."),
    }
    labels = (
        dict(mesh.node_labels) | ({NODE_LABEL: name} if mesh.local_nodes else {}) | {"kuma.io/workload": mesh.service}
    )
    return Document(
        "Dataplane",
        name,
        "Example: the sidecar of a model server on a VM (kuma-dp run --dataplane-file). One for each node, under the "
        "id that the node has in the configuration of tbms.",
        None,
        labels=labels,
        fields={"networking": networking},
        in_zone=False,
    )
