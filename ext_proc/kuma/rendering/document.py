"""One resource of Kuma as YAML with its reasons, as Kubernetes or Universal wants it."""

from dataclasses import dataclass, field
from typing import Any

from ext_proc.kuma.rendering.commented_yaml import Because, comment, to_text
from ext_proc.kuma.rendering.description import MeshDescription

MESH_LABEL = "kuma.io/mesh"
ORIGIN_LABEL = "kuma.io/origin"


@dataclass(frozen=True, slots=True)
class Document:
    """A resource: its kind, its name, what it is for, and its spec. `labels` beside those that every resource has.

    A legacy resource of Universal (Dataplane) has its fields at the top: then `spec` is None, and `fields` holds them.
    """

    kind: str
    name: str
    about: str
    spec: dict[str, Any] | None
    labels: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    namespace: str | None = None
    """Of Kubernetes, where it is not the control plane's."""
    in_zone: bool = True
    """Whether it is a zone's own, and not for the whole mesh."""

    def text(self, mesh: MeshDescription) -> str:
        """The resource as YAML, its comment first."""
        content = self._object(mesh) if mesh.on_kubernetes else self._universal(mesh)
        return "\n".join(comment(self.about)) + "\n" + to_text(content)

    def _universal(self, mesh: MeshDescription) -> dict[str, Any]:
        head: dict[str, Any] = {"type": self.kind, "name": self.name, "mesh": mesh.mesh}
        labels = ({ORIGIN_LABEL: "zone"} if self.in_zone else {}) | self.labels
        if labels:
            head["labels"] = labels
        return head | self.fields | ({} if self.spec is None else {"spec": self.spec})

    def _object(self, mesh: MeshDescription) -> dict[str, Any]:
        labels = {MESH_LABEL: mesh.mesh} | ({ORIGIN_LABEL: "zone"} if self.in_zone else {}) | self.labels
        metadata = {"name": self.name, "namespace": self.namespace or mesh.system_namespace, "labels": labels}
        head: dict[str, Any] = {"apiVersion": "kuma.io/v1alpha1", "kind": self.kind, "metadata": metadata}
        return head | self.fields | ({} if self.spec is None else {"spec": self.spec})


def of_dataplanes(pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """A top-level targetRef: the proxies with these labels, and no others."""
    return {"kind": "Dataplane", "labels": dict(pairs)}


def of_service(mesh: MeshDescription, why: str | None = None) -> Any:
    """A targetRef to the MeshService of the model servers, as this version finds it."""
    if mesh.kuma.names_services:
        found: dict[str, Any] = {"kind": "MeshService", "name": mesh.service}
        if mesh.on_kubernetes:
            found["namespace"] = mesh.namespace
    else:
        found = {"kind": "MeshService", "labels": service_labels(mesh, mesh.service, mesh.zone)}
    return found if why is None else Because(found, why)


def service_labels(mesh: MeshDescription, service: str, zone: str) -> dict[str, str]:
    """The labels by which a MeshService is found in any zone."""
    found = {"kuma.io/display-name": service, "kuma.io/zone": zone}
    if mesh.on_kubernetes:
        found["k8s.kuma.io/namespace"] = mesh.namespace
    return found
