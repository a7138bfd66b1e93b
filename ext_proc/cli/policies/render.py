"""`tbms policies render`: what was said on the command line as a description of a mesh, and where the files go."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ext_proc.cli.envoy_config import edge_settings, gathered_calls
from ext_proc.config import load
from ext_proc.envoy_config import EnvoySettings, GatheredCalls
from ext_proc.errors import ConfigError
from ext_proc.kuma.rendering.description import (
    DEFAULT_PORTS,
    EGRESS,
    KNOWN_MAP,
    SOCKET,
    Collector,
    Environment,
    MeshDescription,
    Port,
    RemoteNode,
    account,
    label,
    labels,
    trust_domain,
)
from ext_proc.kuma.rendering.files import render_policies
from ext_proc.kuma.rendering.names import Naming
from ext_proc.kuma.rendering.versions import KumaVersion, kuma_version
from ext_proc.whole_file import replace_file
from mesh.address import AddressError, parse_address

_E = TypeVar("_E", bound=Enum)
# Where an Envoy of Kuma has its admin interface, if that is a port.
_OWN_ADMIN_PORT = "127.0.0.1:9901"


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of the command, as they were written."""

    kuma: str
    environment: str
    mesh: str = "default"
    zone: str = "default"
    namespace: str = ""
    service: str = "models"
    ports: tuple[str, ...] = ()
    naming: str | None = None
    edge_labels: str = "app=client"
    node_labels: str = "app=models"
    callers: tuple[str, ...] = ()
    trust_domain: str = ""
    local_nodes: tuple[str, ...] = ()
    remote_nodes: tuple[str, ...] = ()
    gateway: str | None = None
    config: Path | None = None
    node_config: Path | None = None
    known: bool = True
    egress: bool = True
    collector: str | None = None
    without: tuple[str, ...] = ()
    system_namespace: str = "kuma-system"


@dataclass(frozen=True, slots=True)
class _Edge:
    socket: str = SOCKET
    known: str | None = KNOWN_MAP
    envoy: EnvoySettings = field(default_factory=lambda: EnvoySettings(egress=EGRESS))


@dataclass(frozen=True, slots=True)
class _Node:
    hold_seconds: float = 300.0
    gathered: GatheredCalls | None = None
    known: str | None = None


def run(wishes: Wishes, out: Path | None) -> str:
    """Writes the files into the folder `out`, or gives them as one text. Raises ConfigError that names the option."""
    files = render_policies(description(wishes), wishes.without)
    if out is None:
        documents = [text for name, text in files.items() if name != "kustomization.yaml"]
        return "---\n".join(documents)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            replace_file(out / name, text.encode())
    except OSError as error:
        raise ConfigError(f"--out: {error}") from None
    return f"{len(files)} files in {out}\n"


def description(wishes: Wishes) -> MeshDescription:
    """The mesh that was described. Raises ConfigError that names the option at fault."""
    version = kuma_version("--kuma", wishes.kuma)
    edge, node = _edge(wishes), _node(wishes, version)
    return MeshDescription(
        version,
        _one_of("--environment", Environment, wishes.environment),
        mesh=label("--mesh", wishes.mesh),
        zone=label("--zone", wishes.zone),
        namespace=label("--namespace", wishes.namespace) if wishes.namespace else "",
        service=label("--service", wishes.service),
        ports=_ports(wishes.ports) or DEFAULT_PORTS,
        naming=_naming(version, wishes.naming),
        edge_labels=labels("--edge-labels", wishes.edge_labels),
        node_labels=labels("--node-labels", wishes.node_labels),
        callers=tuple(account("--caller", text) for text in wishes.callers) or ("client",),
        gateway=None if wishes.gateway is None else label("--gateway", wishes.gateway),
        local_nodes=tuple(label("--local-node", text) for text in wishes.local_nodes),
        remote_nodes=tuple(RemoteNode.read("--remote-node", text) for text in wishes.remote_nodes),
        trust_domain=trust_domain("--trust-domain", wishes.trust_domain) if wishes.trust_domain else "",
        socket=edge.socket,
        known=edge.known if wishes.known else None,
        known_at_nodes=node.known if wishes.known else None,
        has_egress=wishes.egress,
        hold_seconds=node.hold_seconds,
        gathered=node.gathered,
        collector=None if wishes.collector is None else _collector(wishes.collector),
        system_namespace=label("--system-namespace", wishes.system_namespace),
        envoy=edge.envoy,
    )


def _edge(wishes: Wishes) -> _Edge:
    if wishes.config is None:
        return _Edge()
    config = load(wishes.config)
    if config.node is not None:
        raise ConfigError(f"--config: {wishes.config} is a node's; it belongs to --node-config")
    settings = edge_settings(config)
    if "egress" not in config.envoy.model_fields_set:
        settings = settings.model_copy(update={"egress": config.server.egress or EGRESS})
    if wishes.known and config.known.enabled and config.known_off is not None:
        raise ConfigError(f"--known: {wishes.config} has no map: {config.known_off}; write --no-known, or mend that")
    return _Edge(config.server.listen, _text(config.known_file), settings)


def _node(wishes: Wishes, version: KumaVersion) -> _Node:
    if wishes.node_config is None:
        return _Node()
    config = load(wishes.node_config)
    if config.node is None:
        raise ConfigError(f"--node-config: {wishes.node_config} is an edge's: it has no section `node`")
    known = _text(config.known_file)
    if wishes.known and known is not None and version.has_admin_socket and config.envoy.admin == _OWN_ADMIN_PORT:
        raise ConfigError(
            f"envoy.admin: {wishes.node_config} says {config.envoy.admin}, but with known.file a node has to ask its "
            f"Envoy, and in Kuma {version.value} nobody listens there. Name kuma-dp's port, 127.0.0.1:9902, which "
            "passes questions on; or the socket, unix:/.../kuma-envoy-admin.sock in its working directory; or write "
            "--no-known"
        )
    return _Node(config.node.hold_seconds, gathered_calls(config.node.batching), known)


def _text(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _naming(version: KumaVersion, text: str | None) -> Naming:
    if text is None:
        return Naming.LEGACY if version.has_legacy_names else Naming.KRI
    naming = _one_of("--naming", Naming, text)
    if naming is Naming.LEGACY and not version.has_legacy_names:
        raise ConfigError(f"--naming: Kuma {version.value} names every resource by its KRI")
    return naming


def _ports(texts: tuple[str, ...]) -> tuple[Port, ...]:
    ports = tuple(Port.read("--port", text) for text in texts)
    for what, values in (("name", [port.name for port in ports]), ("number", [port.number for port in ports])):
        if len(set(values)) < len(values):
            raise ConfigError(f"--port: two ports of one {what}")
    return ports


def _collector(text: str) -> Collector:
    try:
        found = parse_address(text)
    except AddressError as error:
        raise ConfigError(f"--collector: {error}") from None
    if found.path:
        raise ConfigError(f"--collector: {text!r}: expected host:port")
    return Collector(found.host, found.port)


def _one_of(option: str, kind: type[_E], text: str) -> _E:
    for each in kind:
        if each.value == text:
            return each
    raise ConfigError(f"{option}: {text!r}: expected {' or '.join(str(each.value) for each in kind)}")
