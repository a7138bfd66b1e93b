"""One embedded model server as a child process: a node of the demo and of the integration tests."""

import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from integration.stack.sidecar import TBMS
from mesh.address import spelled
from mesh.node import Node


@dataclass(frozen=True)
class NodeSpec:
    """What a node is started with.

    `models` are the names that it loads and is declared to hold; None loads the whole repository and declares
    nothing. `delay_ms` makes every answer that much slower. `host` is the address at which it listens,
    `enter` what stands before its command, such as what runs it on another host.
    """

    id: str
    models: frozenset[str] | None = None
    zone: str = ""
    weight: float = 1.0
    delay_ms: float = 0.0
    host: str = "127.0.0.1"
    enter: tuple[str, ...] = ()

    def build(self, models: Path, folder: Path) -> "EmbeddedNode":
        """A node whose model repository is the folder `models`."""
        return EmbeddedNode(self, models, folder)


@dataclass
class EmbeddedNode:
    """A running model server. Its ports stay the same when it is killed and started again."""

    spec: NodeSpec
    repository: Path
    folder: Path
    _ports: list[int] = field(default_factory=lambda: free_ports(2))

    def __post_init__(self) -> None:
        grpc_port, rest_port = self._ports
        self.grpc, rest = (spelled(self.spec.host, port) for port in self._ports)
        self.node = Node(
            id=self.spec.id,
            grpc=self.grpc,
            rest=rest,
            zone=self.spec.zone,
            weight=self.spec.weight,
            models=self.spec.models or frozenset(),
        )
        self.rest = f"http://{rest}"
        command: list[str | Path] = [*self.spec.enter, TBMS, "model-server", "--repository", self.repository]
        command += ["--host", self.spec.host]
        command += ["--grpc-port", str(grpc_port), "--rest-port", str(rest_port)]
        command += ["--load", _load_option(self.spec.models)]
        if self.spec.delay_ms:
            command += ["--delay-ms", f"{self.spec.delay_ms:g}"]
        self.process = Process(self.spec.id, command, self.folder / f"{self.spec.id}.log")

    async def start(self) -> None:
        """Starts it; returns once its models are loaded."""
        await self.process.start(answers(f"{self.rest}/v2/health/ready"))

    async def stop(self) -> None:
        """Lets it end by itself."""
        await self.process.stop()

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self.process.kill()


def _load_option(models: Iterable[str] | None) -> str:
    if models is None:
        return "all"
    return ",".join(sorted(models)) or "none"


@asynccontextmanager
async def reference(repository: Path) -> AsyncIterator[EmbeddedNode]:
    """A model server outside of every fleet that has all models loaded: how every call should be answered."""
    with tempfile.TemporaryDirectory(prefix="tbms-") as folder:
        server = EmbeddedNode(NodeSpec("reference"), repository, Path(folder))
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
