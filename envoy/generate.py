"""Writes the example bootstraps of this folder, and the empty map of known calls in deploy/: `make envoy-configs`."""

from pathlib import Path

from ext_proc.envoy_config import EnvoySettings, render, render_node
from ext_proc.known.map_file import MapWriter
from mesh.node import Node

EMPTY_MAP = Path(__file__).parents[1] / "deploy/kubernetes/components/empty-map/known.pb"
VERSIONS = ("1.36", "1.38", "1.40")
SETTINGS = EnvoySettings(body_models=("digits",), access_log="/dev/stdout")
SERVER = "unix:/run/tbms/ext_proc.sock"
NODES = tuple(
    Node(id=f"node-{name}", grpc=f"10.0.0.{number}:8500", rest=f"10.0.0.{number}:8501")
    for number, name in enumerate("abc", start=1)
)
HEADER = """\
# Envoy {version}: clients on {listen}, the external processor at {server}, {behind}.
# Written by `make envoy-configs` (envoy/generate.py); do not edit.
# For a bootstrap that fits your own configuration: tbms envoy-config --config FILE --envoy-version {version}
"""


def renderings() -> dict[str, str]:
    """File name -> text of every example: an edge and a node for each Envoy."""
    files = {f"edge-{version}.yaml": _edge(version) for version in VERSIONS}
    return files | {f"node-{version}.yaml": _node(version) for version in VERSIONS}


def _edge(version: str) -> str:
    header = HEADER.format(version=version, listen=SETTINGS.listen, server=SERVER, behind="three nodes")
    return header + render(SETTINGS, version=version, server=SERVER, nodes=NODES)


def _node(version: str) -> str:
    header = HEADER.format(version=version, listen=SETTINGS.listen, server=SERVER, behind="a model server")
    return header + render_node(
        SETTINGS, version=version, server=SERVER, grpc="127.0.0.1:8500", rest="127.0.0.1:8501", hold_seconds=300
    )


def empty_map() -> bytes:
    """What sidecars on Kubernetes find before the server has written a map."""
    return MapWriter(1).write((), "empty")


def main() -> None:
    """Writes the files beside this one, and the map."""
    EMPTY_MAP.write_bytes(empty_map())
    for name, text in renderings().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
