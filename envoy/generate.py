"""Writes the example bootstraps in this folder anew: `make envoy-configs`, or `python envoy/generate.py`."""

from pathlib import Path

from ext_proc.envoy_config import EnvoySettings, render
from mesh.node import Node

VERSIONS = ("1.36", "1.38", "1.40")
SETTINGS = EnvoySettings(body_models=("digits",), access_log="/dev/stdout")
SERVER = "unix:/run/tbms/ext_proc.sock"
NODES = tuple(
    Node(id=f"node-{name}", grpc=f"10.0.0.{number}:8500", rest=f"10.0.0.{number}:8501")
    for number, name in enumerate("abc", start=1)
)
HEADER = """\
# Envoy {version}: clients on {listen}, the external processor at {server}, three nodes.
# Written by `make envoy-configs` (envoy/generate.py); do not edit.
# For a bootstrap that fits your own configuration: tbms envoy-config --config FILE --envoy-version {version}
"""


def renderings() -> dict[str, str]:
    """File name -> text of every example."""
    return {f"edge-{version}.yaml": _rendering(version) for version in VERSIONS}


def _rendering(version: str) -> str:
    header = HEADER.format(version=version, listen=SETTINGS.listen, server=SERVER)
    return header + render(SETTINGS, version=version, server=SERVER, nodes=NODES)


def main() -> None:
    """Writes the files beside this one."""
    for name, text in renderings().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
