"""The configuration: one YAML file, validated as a whole before any of it is used.

Rooms own their sections (`mesh.routing.settings` and so on); this module composes them, and words every
error as: file, path in the file, what was expected, and the value that was found.
"""

import re
from collections.abc import Set
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from ext_proc.admin import EDGE_ADDRESS, NODE_ADDRESS
from ext_proc.admin.ui.settings import UiSettings
from ext_proc.batching.settings import BatchingSettings
from ext_proc.broker.model_table import ModelTable, known_models
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.contract import KNOWN_MAP_SUFFIX
from ext_proc.envoy_config import EnvoySettings
from ext_proc.errors import ConfigError
from ext_proc.known.settings import KnownMapSettings
from ext_proc.listen_address import ListenAddress
from ext_proc.node.settings import NodeRoleSettings
from ext_proc.recording.settings import RecordingSettings
from ext_proc.tracing.settings import TracingSettings
from mesh.address import parse_address
from mesh.discovery.settings import NodeList
from mesh.discovery.sources import DiscoveryList
from mesh.health.state import ProbeSettings
from mesh.near_names import near_names
from mesh.residency.settings import ResidencySettings
from mesh.routing.settings import RoutingSettings
from mesh.settings import Settings, fault_place, fault_words, settings_at
from mesh.system_words import system_words
from mesh.warming.settings import WarmSettings

_USER = re.compile(r"//.*@")  # of a URL: who writes a password there is told of it without showing it


class TlsSettings(Settings):
    """mTLS towards Envoy, for a server that is not on the same machine. All are PEM files."""

    certificate: Path = Field(description="The server's certificate.")
    key: Path = Field(description="The private key of that certificate.")
    client_ca: Path = Field(description="Clients must show a certificate that this authority signed.")


class LogSettings(Settings):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is less grave is not logged.")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or words for people.")


class ServerSettings(Settings):
    """The server: where it listens, how it stops, what it logs."""

    listen: ListenAddress = Field("unix:/run/tbms/ext_proc.sock", description="Where Envoy reaches the server.")
    socket_mode: Annotated[int, Field(ge=0, le=0o777)] = Field(0o660, description="Permissions of a Unix socket.")
    tls: TlsSettings | None = None
    admin: ListenAddress | None = Field(
        None,
        description=f"Health, metrics and status over HTTP. Without it {EDGE_ADDRESS} at an edge, {NODE_ADDRESS} at a "
        "node.",
    )
    egress: ListenAddress | None = Field(
        None, description="Where candidate calls go out: an Envoy listener. Without it the one of `envoy.egress`."
    )
    ui: UiSettings = UiSettings()
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="How long calls in flight may take at a stop.")
    log: LogSettings = LogSettings()


class LimitSettings(Settings):
    """Bounds on what comes from the wire."""

    body_bytes: int = Field(64 * 1024 * 1024, ge=1024, le=2**31 - 1, description="Largest body that is read or held.")


class Config(Settings):
    """The configuration file as a whole: one field for each section."""

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    routing: RoutingSettings = RoutingSettings()
    probe: ProbeSettings = ProbeSettings()
    residency: ResidencySettings = ResidencySettings()
    warm: WarmSettings = WarmSettings()
    nodes: NodeList = ()
    discovery: DiscoveryList = ()
    broker: BrokerSettings = BrokerSettings()
    models: dict[str, ModelSettings] = Field(
        default_factory=dict, description="By name, what the time broker knows about models, and names for others."
    )
    batching: BatchingSettings | None = Field(
        None, description="Gather calls to nodes that no tbms stands before at this edge. A node has `node.batching`."
    )
    node: NodeRoleSettings | None = Field(None, description="Take the node role; without it the process is an edge.")
    envoy: EnvoySettings = EnvoySettings()
    known: KnownMapSettings = KnownMapSettings()
    recording: RecordingSettings = RecordingSettings()
    tracing: TracingSettings | None = None

    @property
    def admin(self) -> str:
        """Where the admin port listens."""
        return self.server.admin or (EDGE_ADDRESS if self.node is None else NODE_ADDRESS)

    @cached_property
    def model_table(self) -> ModelTable:
        """The models section, resolved, once. Raises ConfigError for a cycle or an unknown name in it."""
        return ModelTable(self.broker, self.models, self._known_models())

    def _known_models(self) -> Set[str] | None:
        """None where nodes are discovered: nobody knows yet what they hold."""
        return None if self.discovery else known_models(node.node() for node in self.nodes)

    def check(self) -> None:
        """Raises ConfigError for what no section can see by itself."""
        _ = self.model_table
        if self.envoy.endpoints_dir is not None and any(source.kind == "envoy" for source in self.discovery):
            raise ConfigError(
                "discovery: kind envoy reads which nodes Envoy knows, and with envoy.endpoints_dir Envoy knows those "
                "which this server writes: it would hear its own echo"
            )
        if self.node is not None and self.batching is not None:
            raise ConfigError("batching: this process is a node, and nodes gather by `node.batching`")
        if self.node is not None and self.recording.folder is not None:
            raise ConfigError("recording.folder: this process is a node, and calls are recorded at edges")
        step, each = self.routing.load_step, self.warm.replica_load
        if step > each:
            raise ConfigError(
                f"warm.replica_load: {each:g} is less than routing.load_step, {step:g}: loads below the step count "
                "as equal, so a further copy would get no calls"
            )
        if self.known.enabled and self.known.file is not None and (fault := self._against_known()) is not None:
            raise ConfigError(f"known.file: {fault}")

    @property
    def known_file(self) -> Path | None:
        """The file of the map of known calls; None where none is kept: `known_off` says why."""
        if self.known_off is not None:
            return None
        return Path(self.known.file or self._socket + KNOWN_MAP_SUFFIX)

    @property
    def known_off(self) -> str | None:
        """Why no map of known calls is kept; None where one is. A map whose file is named is wanted: see `check`."""
        if not self.known.enabled:
            return "known.enabled is off"
        if self.known.file is not None:
            return None
        if self.node is not None:
            return "a node keeps one only with known.file: it pays where models stay loaded"
        if not self._socket:
            return "server.listen is no Unix socket, beside which Envoy would find it, and known.file names no place"
        if not self.envoy.accounts:
            return "envoy.accounts is off, and nobody would count known calls"
        return self._against_known()

    @property
    def _socket(self) -> str:
        """The path of the server's Unix socket; empty where it listens on a port."""
        return parse_address(self.server.listen, listening=True).path

    def _against_known(self) -> str | None:
        """What speaks against a map of known calls in any case."""
        if self.node is not None:
            return None if self.envoy.accounts else "envoy.accounts is off, and a node has to hear of known calls"
        if self.envoy.watch_responses:
            return "envoy.watch_responses wants the server to see every call to its reply"
        if not self.envoy.request_ids:
            return "envoy.request_ids is off, and calls are shared among nodes by their id"
        return None


def load(path: Path) -> Config:
    """Reads and validates a file. Raises ConfigError that says where in the file, what, and what was expected."""
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """The text of a file. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {system_words(error)}") from None


def parse(text: str, name: str) -> Config:
    """Validates the text of a file called `name`."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {_yaml_words(error)}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: a mapping of sections was expected, not {type(document).__name__}")
    try:
        config = Config.model_validate(document)
        config.check()
    except ValidationError as error:
        raise ConfigError("\n".join(_wording(name, fault) for fault in error.errors())) from None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return config


def _yaml_words(error: yaml.YAMLError) -> str:
    """Where it is, and what is wrong, without the lines around it."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    at, doing = error.problem_mark, f" {error.context}" if error.context else ""
    return f"line {at.line + 1}, column {at.column + 1}: {error.problem}{doing}"


def _wording(name: str, fault: ErrorDetails) -> str:
    where = fault_place(fault) or "(top)"
    if fault["type"] == "extra_forbidden":
        *_, setting = fault["loc"]
        near = near_names(str(setting), settings_at(Config, fault["loc"]))
        return f"{name}: {where}: no such setting{near and f'. {near}'}"
    if fault["type"] == "secret":
        return f"{name}: {where}: {fault['msg']}"
    value = _USER.sub("//***@", repr(fault["input"]))
    shown = value if len(value) <= 80 else value[:77] + "..."
    return f"{name}: {where}: {fault_words(fault)} (found {shown})"
