"""All files of a mesh: one for each kind of policy, each with its reasons, and on Kubernetes a kustomization."""

from collections.abc import Iterator, Sequence

from ext_proc.errors import ConfigError
from ext_proc.kuma.rendering.commented_yaml import comment, to_text
from ext_proc.kuma.rendering.description import MeshDescription
from ext_proc.kuma.rendering.document import Document
from ext_proc.kuma.rendering.patches import edge_patch, gateway_patch, node_patch
from ext_proc.kuma.rendering.services import container_patches, dataplanes, mesh_services, node_routes
from ext_proc.kuma.rendering.telemetry import telemetry
from ext_proc.kuma.rendering.traffic import breakers, identities, permissions, retries, timeouts
from mesh.address import parse_address


def render_policies(mesh: MeshDescription, without: Sequence[str] = ()) -> dict[str, str]:
    """File name -> text, in the order in which they are applied, but for those in `without` (names without .yaml).

    Raises ConfigError for what no sidecar could use, and for a name in `without` that no file has.
    """
    _check(mesh)
    texts = {name: _file(mesh, documents) for name, documents in _documents(mesh) if documents}
    if unknown := [name for name in without if name not in texts]:
        raise ConfigError(f"--without: {unknown[0]!r} is none of the files: {', '.join(texts)}")
    files = {f"{name}.yaml": text for name, text in texts.items() if name not in without}
    if mesh.on_kubernetes:
        about = (
            f"kubectl apply -k of this folder: all policies, in the order below, for Kuma {mesh.kuma.value}. Leave out "
            "what your mesh has already (mesh-identity.yaml) or does not want (mesh-access-log.yaml)."
        )
        content = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(files)}
        files["kustomization.yaml"] = "\n".join(comment(about)) + "\n" + to_text(content)
    return files


def _documents(mesh: MeshDescription) -> Iterator[tuple[str, Sequence[Document]]]:
    # What others depend on comes first: a pod that names a ContainerPatch which is not there is refused, a patch of a
    # cluster that is not there does nothing; and the retries of the patch hold once MeshRetry has taken Kuma's away.
    yield "container-patch", container_patches(mesh)
    yield "mesh-identity", identities(mesh)
    yield "mesh-traffic-permission", permissions(mesh)
    yield "mesh-service", mesh_services(mesh)
    yield "mesh-timeout", timeouts(mesh)
    yield "mesh-circuit-breaker", breakers(mesh)
    yield "mesh-retry", retries(mesh)
    yield "mesh-http-route", node_routes(mesh)
    yield "mesh-proxy-patch-node", [node_patch(mesh)]
    yield "mesh-proxy-patch-edge", [edge_patch(mesh)]
    if mesh.gateway is not None:
        yield "mesh-proxy-patch-gateway", [gateway_patch(mesh, mesh.gateway)]
    if mesh.collector is not None:
        yield from telemetry(mesh, mesh.collector).items()
    for document in dataplanes(mesh):
        yield f"dataplane-{document.name}", [document]


def _file(mesh: MeshDescription, documents: Sequence[Document]) -> str:
    return "---\n".join(document.text(mesh) for document in documents)


def _check(mesh: MeshDescription) -> None:
    if mesh.on_kubernetes and not mesh.namespace:
        raise ConfigError("--namespace: on Kubernetes the model servers' namespace is part of every name")
    if not mesh.on_kubernetes and mesh.namespace:
        raise ConfigError(f"--namespace: {mesh.namespace!r}: Universal has no namespaces")
    if not parse_address(mesh.envoy.egress).path:
        raise ConfigError(
            f"envoy.egress: {mesh.envoy.egress}: in a mesh it has to be a Unix socket (unix:/run/tbms/egress.sock), "
            "where nobody but the server can call"
        )
    if not parse_address(mesh.socket).is_local:
        raise ConfigError(
            f"server.listen: {mesh.socket}: the server stands beside its sidecar: a Unix socket, or loopback"
        )
    shared = (
        ("server.listen", parse_address(mesh.socket).path), ("known.file", mesh.known or ""),
        ("known.file of nodes", mesh.known_at_nodes or ""),
    )  # fmt: skip
    for what, path in shared:
        if mesh.on_kubernetes and path and not path.startswith(f"{mesh.folder}/"):
            raise ConfigError(f"{what}: {path} is not in {mesh.folder}, the one folder that kuma-sidecar gets")
    if mesh.on_kubernetes and mesh.known and mesh.known_at_nodes not in (None, mesh.known):
        raise ConfigError(
            f"known.file: {mesh.known} on edges, {mesh.known_at_nodes} on nodes: one ContainerPatch lays it for both"
        )
