"""Real Envoys with a server beside them, in front of one node that plays what each test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from integration.stack.sidecar import Sidecar
from tests.integration.conftest import need_envoy
from tests.integration.racing.puppet import Part, Puppet, puppet
from tests.integration.racing.racing import RULES, Client

# What clients that send no header of ours can meet; see test_names.
MODELS = {
    "known": {"limit_ms": 400, "estimate_ms": 20, "backups": ["svm;est=100"]},
    "patient": {"limit_ms": 20_000, "estimate_ms": 20, "backups": ["svm;est=100"]},
    "fixed": {
        "limit_ms": 100,
        "fallback": {
            "tfs-rest": {"body": '{"predictions": [77]}'},
            "v2-rest": {"body": '{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [77]}]}'},
            "tfs-grpc": {"body_base64": "ChMKAXkSDggBEgQSAggBKgQAAJpCEgMKAW0="},
            "v2-grpc": {"body_base64": "CgFtEgExKhQKAXkSBEZQMzIaAQEqBjIEAACaQg=="},
        },
    },
    "prod": {"alias": "bert;version=7"},
    "tagged": {"labels": {"stable": 3}},
    "trial": {"split": ["one;w=1", "two;w=1"]},
    "copied": {"shadow": {"to": "svm", "share": 1.0}},
    "assistant": {"virtual": ["bert;est=20", "(one two);mix=avg"], "limit_ms": 400},
}


@dataclass
class Stage:
    """One edge, a client of it, and the node behind it."""

    edge: Sidecar
    client: Client
    puppet: Puppet

    def plays(self, **parts: Part) -> None:
        self.puppet.plays(**parts)

    async def until_alive(self) -> None:
        """The node answers no probes while tests run that use no loop."""
        async with asyncio.timeout(60):
            while not all(node["alive"] for node in (await self.edge.status())["nodes"]):
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage_of(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[[str], Awaitable[Stage]]]:
    """Gives the stage with an Envoy of some version; each is built once, all share one node."""
    stages: dict[str, Stage] = {}
    async with AsyncExitStack() as stack:
        show = await stack.enter_async_context(puppet())

        async def stage(version: str) -> Stage:
            need_envoy(version)
            if version not in stages:
                folder = tmp_path_factory.mktemp(f"races-{version}")
                # On a Unix socket Envoy knows the server's calls; elsewhere it asks whether they are.
                egress = {} if version == "1.38" else {"egress": f"unix:{folder}/egress.sock"}
                sections = {"broker": RULES, "models": MODELS, "envoy": egress}
                edge = await stack.enter_async_context(Sidecar(folder, [show.node], envoy=version, sections=sections))
                stages[version] = Stage(edge, await stack.enter_async_context(Client(edge)), show)
            return stages[version]

        yield stage


@pytest_asyncio.fixture(params=["1.40", "1.38"], loop_scope="session")
async def stage(request: pytest.FixtureRequest, stage_of: Callable[[str], Awaitable[Stage]]) -> Stage:
    """The versions on which every call can be raced."""
    built = await stage_of(request.param)
    built.plays()
    await built.until_alive()
    return built
