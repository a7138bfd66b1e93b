"""A node that starts empty and loads what it is asked for: Envoy, the server in the node role, and a model server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.ports import free_port
from integration.stack.sidecar import Section, Sidecar
from mesh.node import Node


@dataclass(frozen=True)
class Served:
    """A model server that somebody else runs over the cache's `models` folder: `ip:port` of its two APIs."""

    grpc: str
    rest: str


@dataclass(frozen=True)
class CachedSpec:
    """What a node is started with: `cache` and `store` are added to those sections of its configuration.

    `store` is the URL of the store if it is not a folder. With `batching` calls are gathered.
    `envoy` is the version in front of it; with `known` that lets known calls pass.
    """

    id: str
    cache: Mapping[str, Any] = field(default_factory=dict)
    store: Mapping[str, Any] = field(default_factory=dict)
    hold_seconds: float = 60.0
    envoy: str = "1.40"
    zone: str = ""
    batching: Mapping[str, Any] | None = None
    log: str = "info"
    known: bool = False

    def build(self, models: Path, folder: Path) -> "CachedNode":
        """A node whose store is the folder `models`."""
        return CachedNode(self, models, folder)


class CachedNode:
    """One node, stopped and started as a whole or part by part. Its ports stay the same.

    `agent` is the server in the node role with its Envoy, `models` the embedded model server (None where it is
    another's). `node` is how edges know it: one port for both kinds of calls.
    """

    def __init__(
        self, spec: CachedSpec, shelf: Path, folder: Path, served: Served | None = None, drain_seconds: float = 10.0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.spec = spec
        self.cache = folder / "cache"
        repository = self.cache / "models"
        repository.mkdir(parents=True, exist_ok=True)
        self.models: EmbeddedNode | None = None
        if served is None:
            self.models = EmbeddedNode(NodeSpec(f"{spec.id}-models", models=frozenset()), repository, folder)
            served = Served(self.models.grpc, self.models.rest.removeprefix("http://"))
        self.served = served
        cache = {"folder": str(self.cache), "poll_seconds": 0.2, "min_age_seconds": 0, **spec.cache}
        cache["loader"] = {"address": served.grpc, **cache.get("loader", {})}
        section: Section = {
            "cache": cache,
            "store": {"url": shelf.absolute().as_uri(), **spec.store},
            "rest": served.rest,
            "hold_seconds": spec.hold_seconds,
            "publish": f"127.0.0.1:{free_port()}",
            "heartbeat_seconds": 0.3,
        }
        if spec.batching is not None:
            section = {**section, "batching": spec.batching}
        sections: dict[str, Section] = {
            "node": section,
            "envoy": {"upstream_header": False},
            "server": {"drain_seconds": drain_seconds, "log": {"level": spec.log}},
        }
        if spec.known:
            sections["known"] = {}
        self.agent = Sidecar(folder, (), envoy=spec.envoy, sections=sections)
        target = self.agent.target
        self.node = Node(spec.id, grpc=target, rest=target, zone=spec.zone, residency=section["publish"])

    async def __aenter__(self) -> "CachedNode":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts all of it; returns once it takes calls. Raises ProcessError, and then nothing runs."""
        try:
            if self.models is not None:
                await self.models.start()
            await self.agent.__aenter__()
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> None:
        """Envoy first, so that no call finds half a node."""
        try:
            await self.agent.stop()
            if self.models is not None:
                await self.models.stop()
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends all of it at once, as a machine that loses its power."""
        self.agent.kill()
        if self.models is not None:
            self.models.kill()

    async def states(self) -> dict[str, str]:
        """Every model in the books of this node: `name:version` and where it stands."""
        return {f"{each['model']}:{each['version']}": each["state"] for each in await self.books()}

    async def books(self) -> list[dict[str, Any]]:
        """What /status says of the models."""
        models: list[dict[str, Any]] = (await self.agent.status())["models"]
        return models
