"""The fleet of deploy/compose without its containers: its configurations, Envoys made from them, its order of starts.

Addresses and folders are those of this machine, and the model server is the embedded one, driven as a Triton is.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from ext_proc.cli.envoy_config import bootstrap_for, lay_map
from ext_proc.config import load
from integration.stack.embedded import TBMS
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from tests.integration.calls import v2_rest
from tests.integration.conftest import need_envoy

DEPLOY = Path(__file__).parents[3] / "deploy"
VERSION = "1.38"


@dataclass
class Party:
    """What shares one network in the compose file: a server, its Envoy, and a node's model server."""

    folder: Path
    calls: int
    admin: int
    publish: int
    processes: dict[str, Process]


def written(source: str, folder: Path, changes: dict[str, str]) -> Path:
    """A configuration of deploy/compose, with addresses and folders of this machine."""
    text = (DEPLOY / "compose" / source).read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file = folder / "tbms.yaml"
    file.write_text(text)
    return file


@asynccontextmanager
async def party(name: str, config: Path, ports: tuple[int, int, int], *before: Process) -> AsyncIterator[Party]:
    """In the order of the compose file: the bootstrap, the server until it is healthy, then Envoy."""
    folder = config.parent
    calls, admin, publish = ports
    # What `tbms envoy-config` does, without the second that each start of Python takes.
    loaded = load(config)
    laid = lay_map(loaded)
    assert (laid.file is None) is (loaded.node is not None)
    (folder / "envoy.yaml").write_text(bootstrap_for(loaded, VERSION, laid.file))
    server = Process(f"{name}: tbms", [TBMS, "serve", "--config", config], folder / "tbms.log")
    command: list[str | Path] = [envoy_binary(VERSION), "-c", folder / "envoy.yaml", "--concurrency", "1"]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    envoy = Process(f"{name}: Envoy", command, folder / "envoy.log")
    processes = {"server": server, "envoy": envoy}
    try:
        await server.start(answers(f"http://127.0.0.1:{admin}/healthz"))
        await envoy.start(answers(f"http://127.0.0.1:{calls}/v2/health/live"))
        yield Party(folder, calls, admin, publish, processes)
    finally:
        for process in (envoy, server, *before):
            process.kill()


@asynccontextmanager
async def node(name: str, folder: Path, repository: Path) -> AsyncIterator[Party]:
    calls, admin, publish, grpc, rest = free_ports(5)
    own = folder / name
    (own / "cache/models").mkdir(parents=True)
    changes = {
        "/run/tbms": str(own), "/var/lib/tbms": str(own / "cache"), "file:///models": f"file://{repository}",
        "0.0.0.0:8080": f"127.0.0.1:{calls}", "127.0.0.1:9904": f"127.0.0.1:{admin}",
        "0.0.0.0:9903": f"127.0.0.1:{publish}", "127.0.0.1:8500": f"127.0.0.1:{grpc}",
        "127.0.0.1:8501": f"127.0.0.1:{rest}", "drain_seconds: 25": "drain_seconds: 10",
    }  # fmt: skip
    config = written("triton-node.yaml", own, changes)
    command = [TBMS, "model-server", "--repository", own / "cache/models", "--load", "none"]
    command += ["--grpc-port", str(grpc), "--rest-port", str(rest)]
    model_server = Process(f"{name}: model server", command, own / "model-server.log")
    await model_server.start(answers(f"http://127.0.0.1:{rest}/v2/health/live"))
    async with party(name, config, (calls, admin, publish), model_server) as started:
        started.processes["model server"] = model_server
        yield started


@asynccontextmanager
async def fleet(folder: Path, repository: Path) -> AsyncIterator[tuple[Party, dict[str, Party]]]:
    async with AsyncExitStack() as stack:
        nodes = {}
        for name in ("node-a", "node-b"):
            nodes[name] = await stack.enter_async_context(node(name, folder, repository))
        calls, admin = free_ports(2)
        own = folder / "edge"
        own.mkdir()
        changes = {"/run/tbms": str(own), "0.0.0.0:8080": f"127.0.0.1:{calls}", "0.0.0.0:9904": f"127.0.0.1:{admin}"}
        for host, each in zip(("172.30.90.21", "172.30.90.22"), nodes.values(), strict=True):
            changes[f"{host}:8080"] = f"127.0.0.1:{each.calls}"
            changes[f"{host}:9903"] = f"127.0.0.1:{each.publish}"
        config = written("edge.yaml", own, changes)
        edge = await stack.enter_async_context(party("edge", config, (calls, admin, 0)))
        yield edge, nodes


def prestop(admin: int) -> list[str]:
    """What the model server's container runs at its end, of deploy/kubernetes."""
    workload = next(yaml.safe_load_all((DEPLOY / "kubernetes/triton/statefulset.yaml").read_text()))
    (server,) = workload["spec"]["template"]["spec"]["containers"]
    command = server["lifecycle"]["preStop"]["exec"]["command"]
    assert "/9904)" in command[-1]
    return [*command[:-1], command[-1].replace("/9904)", f"/{admin})")]


@pytest.mark.timeout(300)  # it starts eight processes, one after the other
async def test_the_fleet_answers_and_a_node_leaves_before_its_model_server(
    tmp_path: Path, repository: Path, names: list[str]
) -> None:
    need_envoy(VERSION)
    call = v2_rest(names[0], np.zeros((1, 64), np.float32))
    async with fleet(tmp_path, repository) as (edge, nodes), httpx.AsyncClient(trust_env=False, timeout=30) as http:

        async def status() -> int:
            url = f"http://127.0.0.1:{edge.calls}{call.path}"
            return (await http.post(url, content=call.body, headers=call.headers)).status_code

        assert [await status() for _ in range(3)] == [200] * 3
        holders: list[str] = []
        async with asyncio.timeout(60):
            while not holders:  # the edge hears of it a moment later
                told = (await http.get(f"http://127.0.0.1:{edge.admin}/status")).json()
                states = told["models"].get(names[0], {})
                holders = [name for name, state in states.items() if state == "available"]
        leaver = nodes[holders[0]]
        waiting = await asyncio.create_subprocess_exec(*prestop(leaver.admin))
        leaver.processes["server"].signal(signal.SIGTERM)  # by kubelet, while the hook runs
        while waiting.returncode is None:
            assert await status() == 200
            await asyncio.sleep(0.1)
        assert waiting.returncode == 0
        assert not leaver.processes["server"].running or await leaver.processes["server"].stop() == 0
        assert leaver.processes["model server"].running
        assert await status() == 200
