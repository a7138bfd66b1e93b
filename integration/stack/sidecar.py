"""A real Envoy with a tbms server beside it, in front of nodes that somebody else started."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from ext_proc.cli.envoy_config import bootstrap_for, lay_map
from ext_proc.config import load
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from mesh.node import Node

TBMS = Path(sys.executable).with_name("tbms")

Section = Mapping[str, Any]

# The messages of Envoy's configuration complete their classes at the first use, and no two threads may do that at once.
_rendering = threading.Lock()


class Sidecar:
    """The server and its Envoy, started and stopped one by one or (`async with`) together.

    `http` is the base URL of the Envoy listener, `target` its `ip:port` for gRPC channels, `admin` and `envoy_admin`
    the base URLs of the two admin ports. `sections` are merged into the configuration (one level deep; lists
    replace). Raises ProcessError when one of the two does not come up, ConfigError when the sections make no
    configuration.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Iterable[Node],
        *,
        envoy: str = "1.40",
        sections: Mapping[str, Section | Sequence[Any]] | None = None,
        concurrency: int = 1,
    ) -> None:
        ports = free_ports(4)
        self.nodes = list(nodes)
        self.version = envoy
        self.target = f"127.0.0.1:{ports[0]}"
        self.http = f"http://{self.target}"
        self.admin = f"http://127.0.0.1:{ports[2]}"
        self.envoy_admin = f"http://127.0.0.1:{ports[3]}"
        self.config = folder / "tbms.yaml"
        self._bootstrap = folder / "envoy.yaml"
        self._sections: dict[str, Any] = {
            "server": {
                "listen": f"unix:{folder}/ext_proc.sock",
                "admin": f"127.0.0.1:{ports[2]}",
                "drain_seconds": 10,
                "log": {"level": "info"},
            },
            "routing": {"replicas": 2},
            # A dead node refuses at once; a probe that takes long says that this machine is busy.
            "probe": {"interval": 0.2, "timeout": 5.0, "failures": 2},
            "envoy": {
                "listen": f"127.0.0.1:{ports[0]}",
                "egress": f"127.0.0.1:{ports[1]}",
                "admin": f"127.0.0.1:{ports[3]}",
                "upstream_header": True,
            },
        }
        for name, section in (sections or {}).items():
            if isinstance(section, Mapping):
                self._sections.setdefault(name, {}).update(section)
            else:
                self._sections[name] = list(section)
        # Soon enough for tests to meet known calls: most make a few and are done. A node has a map
        # where that is wanted.
        wanted = "node" in self._sections and "known" in self._sections
        known = {"file": str(folder / "known.pb")} if wanted else {}
        self._sections["known"] = {"seconds": 0.1, **known, **self._sections.get("known", {})}
        self.server = Process("tbms server", [TBMS, "serve", "--config", self.config], folder / "server.log")
        self.envoy = Process(
            f"Envoy {envoy}",
            [
                envoy_binary(envoy),
                "--config-path",
                self._bootstrap,
                "--concurrency",
                str(concurrency),
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ],
            folder / "envoy.log",
        )

    async def __aenter__(self) -> "Sidecar":
        try:
            self.write_config()
            await asyncio.to_thread(self._render_bootstrap)
            await self.start_server()
            await self._start_envoy()
        except BaseException:
            await self.stop()
            raise
        return self

    async def start_envoy_first(self) -> None:
        """Starts Envoy alone, as a mesh may; `start_server` is to follow."""
        self.write_config()
        await asyncio.to_thread(self._render_bootstrap)
        await self._start_envoy()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stops Envoy, then the server."""
        await self.envoy.stop()
        await self.server.stop()

    def kill(self) -> None:
        """Ends both at once."""
        self.envoy.kill()
        self.server.kill()

    async def start_server(self) -> None:
        """Starts the server; returns once it says that it is ready."""
        await self.server.start(answers(f"{self.admin}/readyz"))

    def add_to(self, section: str, settings: Section) -> None:
        """Adds settings to a section of the configuration that is written next."""
        self._sections.setdefault(section, {}).update(settings)

    def put(self, section: str, settings: Section | Sequence[Any]) -> None:
        """Replaces a section of the configuration that is written next."""
        self._sections[section] = settings

    def write_config(self) -> None:
        """Writes the configuration as it stands now, in one step: a server that watches the file takes it up."""
        document = {**self._sections, "nodes": [_as_settings(node) for node in self.nodes]}
        unfinished = self.config.with_suffix(".new")
        unfinished.write_text(yaml.safe_dump(document, sort_keys=False))
        unfinished.replace(self.config)

    async def status(self) -> dict[str, Any]:
        """What the server says of itself at /status."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.admin}/status") as reply:
            document: dict[str, Any] = json.loads(await reply.read())
            return document

    async def _start_envoy(self) -> None:
        await self.envoy.start(answers(f"{self.envoy_admin}/ready"))

    def _render_bootstrap(self) -> None:
        # As `tbms envoy-config` does, without two seconds of imports each time.
        with _rendering:
            config = load(self.config)
            text = bootstrap_for(config, self.version, lay_map(config).file)
        self._bootstrap.write_text(text, encoding="utf-8")


def _as_settings(node: Node) -> dict[str, Any]:
    settings: dict[str, Any] = {"id": node.id, "grpc": node.grpc, "rest": node.rest}
    if node.is_far:
        settings |= {"reached_by": node.reached_by, "speaks": sorted(node.speaks)}
    settings |= {"residency": node.residency, "zone": node.zone, "weight": node.weight, "models": sorted(node.models)}
    return settings
