"""Writes the policies of the example mesh in this folder anew: `make kuma-policies`, or this file."""

from dataclasses import replace
from pathlib import Path

from ext_proc.kuma.rendering.description import (
    DEFAULT_PORTS,
    KNOWN_MAP,
    Collector,
    Environment,
    MeshDescription,
    RemoteNode,
)
from ext_proc.kuma.rendering.files import render_policies
from ext_proc.kuma.rendering.names import Naming
from ext_proc.kuma.rendering.versions import KumaVersion

# A model server that binds every address, as TF Serving does, cannot have the number of the sidecar before it.
_BEHIND = {"http": 8511, "grpc": 8510}


def example(version: KumaVersion, environment: Environment) -> MeshDescription:
    """The example mesh: the zone `default`, its two nodes, two more in another zone, a gateway and a collector."""
    return MeshDescription(
        version,
        environment,
        namespace="ml" if environment is Environment.KUBERNETES else "",
        ports=tuple(
            [
                replace(port, server_port=0 if environment is Environment.KUBERNETES else _BEHIND[port.name])
                for port in DEFAULT_PORTS
            ]
        ),
        naming=Naming.LEGACY if version.has_legacy_names else Naming.KRI,
        callers=("client", "edge-gateway"),
        gateway="edge-gateway",
        local_nodes=("node-a", "node-b"),
        remote_nodes=(RemoteNode("node-c", "zone-2"), RemoteNode("node-d", "zone-2")),
        known=KNOWN_MAP,
        collector=Collector("otel-collector.observability", 4317),
    )


def renderings() -> dict[str, str]:
    """Path below this folder -> text."""
    found = {}
    for environment in Environment:
        for version in KumaVersion:
            for name, text in render_policies(example(version, environment)).items():
                found[f"{environment.value}/{version.value}/{name}"] = text
    return found


def main() -> None:
    """Writes the files, and takes away those that are none any more."""
    folder = Path(__file__).parent
    files = renderings()
    for path in folder.glob("*/*/*.yaml"):
        if str(path.relative_to(folder)) not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
