"""The one description of a mesh that its policies are written from."""

import posixpath
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from ext_proc.contract import KNOWN_MAP_SUFFIX
from ext_proc.envoy_config import EnvoySettings, GatheredCalls
from ext_proc.errors import ConfigError
from ext_proc.kuma.rendering.names import Naming, service_cluster, service_kri
from ext_proc.kuma.rendering.versions import KumaVersion
from mesh.address import parse_address
from mesh.digits import number

Protocol = Literal["http", "grpc"]

# Names of meshes, zones, services and the like: labels of DNS, as Kuma wants them.
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# A value of a label of Kubernetes, to which Kuma keeps.
_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

# Folder and files that server and sidecar share, unless they are told otherwise.
FOLDER = "/run/tbms"
_SOCKET = f"{FOLDER}/ext_proc.sock"
SOCKET = f"unix:{_SOCKET}"
EGRESS = f"unix:{FOLDER}/egress.sock"
KNOWN_MAP = _SOCKET + KNOWN_MAP_SUFFIX

Labels = tuple[tuple[str, str], ...]
"""Labels in the order in which they are written."""


class Environment(Enum):
    """Where the control plane of the zone keeps its resources; the value is its name on the command line."""

    KUBERNETES = "kubernetes"
    UNIVERSAL = "universal"


def label(part: str, text: str) -> str:
    """The text, if it may be the name of a `part`. Raises ConfigError."""
    if not _LABEL.fullmatch(text):
        raise ConfigError(f"{part}: {text!r} is no DNS label (a-z, 0-9 and -, at most 63)")
    return text


def account(part: str, text: str) -> str:
    """The text, if it may name a caller: a workload, or a service account, `namespace/name` too. Raises ConfigError."""
    for piece in text.split("/", 1):
        label(part, piece)
    return text


def trust_domain(part: str, text: str) -> str:
    """The text, if it may be a trust domain of SPIFFE. Raises ConfigError."""
    if not _DOMAIN.fullmatch(text):
        raise ConfigError(f"{part}: {text!r} is no trust domain (a-z, 0-9, ., - and _)")
    return text


def labels(part: str, text: str) -> Labels:
    """Reads `key=value,key=value`. Raises ConfigError."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise ConfigError(f"{part}: {pair!r} is no label: expected key=value")
        found[key] = value
    return tuple(found.items())


def _port(part: str, text: str) -> int:
    found = number(text, 5)
    if found is None or not 0 < found < 65536:
        raise ConfigError(f"{part}: {text!r} is no port")
    return found


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the model servers: its name, its number in the mesh, what is spoken there, and where they listen.

    `server_port` is where the model server listens behind its sidecar; without it on the same number.
    """

    name: str
    number: int
    protocol: Protocol
    server_port: int = 0

    @property
    def behind(self) -> int:
        """Where the model server listens."""
        return self.server_port or self.number

    @staticmethod
    def read(part: str, text: str) -> "Port":
        """Reads `name:number:protocol`, or with `server_port` as a fourth part. Raises ConfigError."""
        match text.split(":"):
            case [name, port, "http" | "grpc" as protocol]:
                return Port(label(part, name), _port(part, port), protocol)
            case [name, port, "http" | "grpc" as protocol, server]:
                return Port(label(part, name), _port(part, port), protocol, _port(part, server))
        raise ConfigError(
            f"{part}: {text!r}: expected name:number:protocol with protocol http or grpc, as http:8501:http"
        )


DEFAULT_PORTS = (Port("http", 8501, "http"), Port("grpc", 8500, "grpc"))
"""Those of TF Serving."""


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """A node of another zone: its id, and the zone in which a MeshService of that name leads to it alone."""

    id: str
    zone: str

    @staticmethod
    def read(part: str, text: str) -> "RemoteNode":
        """Reads `id=zone`. Raises ConfigError."""
        node, _, zone = text.partition("=")
        if not zone:
            raise ConfigError(f"{part}: {text!r}: expected node=zone, as node-c=zone-2")
        return RemoteNode(label(part, node), label(part, zone))


@dataclass(frozen=True, slots=True)
class Collector:
    """Where an OpenTelemetry collector listens (gRPC)."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class MeshDescription:
    """A mesh, its model servers and their clients, in one zone.

    `service` is the MeshService of the model servers, whose Dataplanes have `node_labels`; callers have `edge_labels`,
    and `callers` are their workloads (service accounts on Kubernetes, `namespace/name` where the namespace is another).
    `local_nodes` are nodes of this zone that other zones may name, `remote_nodes` those of others that callers here
    may. `known` is the map of known calls of edges, `known_at_nodes` that of nodes; None where every call asks their
    server. `has_egress` is whether clients' sidecars have the listener for candidates: those that share a host's edge
    have not. `gathered` are calls that nodes batch, None where they do not. `gateway` is the name of a MeshGateway
    (3.0: the `app` of a delegated one).
    """

    kuma: KumaVersion
    environment: Environment
    mesh: str = "default"
    zone: str = "default"
    namespace: str = ""
    service: str = "models"
    ports: tuple[Port, ...] = DEFAULT_PORTS
    naming: Naming = Naming.LEGACY
    edge_labels: Labels = (("app", "client"),)
    node_labels: Labels = (("app", "models"),)
    callers: tuple[str, ...] = ("client",)
    gateway: str | None = None
    local_nodes: tuple[str, ...] = ()
    remote_nodes: tuple[RemoteNode, ...] = ()
    trust_domain: str = ""
    socket: str = SOCKET
    known: str | None = None
    known_at_nodes: str | None = None
    has_egress: bool = True
    hold_seconds: float = 300.0
    gathered: GatheredCalls | None = None
    collector: Collector | None = None
    system_namespace: str = "kuma-system"
    envoy: EnvoySettings = field(default_factory=lambda: EnvoySettings(egress=EGRESS))

    @property
    def on_kubernetes(self) -> bool:
        """Whether resources are objects of Kubernetes."""
        return self.environment is Environment.KUBERNETES

    @property
    def folder(self) -> str:
        """The folder that a server shares with its sidecar."""
        return posixpath.dirname(parse_address(self.envoy.egress).path)

    @property
    def domain(self) -> str:
        """The SPIFFE trust domain of the mesh's identities."""
        return self.trust_domain or f"{self.mesh}.{self.zone}.mesh.local"

    def kri(self, port: Port) -> str:
        """The KRI of a port of the service. Outbounds of Universal say numbers, those of Kubernetes names."""
        return self.cluster(port, Naming.KRI)

    def cluster(self, port: Port, naming: Naming | None = None, node: RemoteNode | None = None) -> str:
        """The cluster of a port, in the sidecars that call it: of the service, or of a node of another zone."""
        zone, service = (self.zone, self.service) if node is None else (node.zone, node.id)
        if (naming or self.naming) is Naming.KRI:
            return service_kri(self.mesh, zone, self.namespace, service, self._section(port))
        return service_cluster(self.mesh, zone, self.namespace, service, port.number)

    def port_of(self, protocol: Protocol) -> Port | None:
        """The first port that speaks this."""
        return next((port for port in self.ports if port.protocol == protocol), None)

    def _section(self, port: Port) -> str:
        return port.name if self.on_kubernetes else str(port.number)
