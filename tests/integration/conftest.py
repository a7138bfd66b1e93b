"""The stacks that the tests share. One event loop serves the whole session, so that a stack outlives a test."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from integration.peers import tf_client
from integration.stack import models
from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.envoys import envoy_binary
from integration.stack.process import Process
from integration.stack.sidecar import Sidecar
from integration.stack.supervisor import Supervisor
from mesh.routing.rendezvous import Rendezvous
from tests.integration.excuses import excuse

TENANTS = ("acme", "birch", "cobalt")
NODES = ("node-a", "node-b", "node-c")
# Calls of tests are few and quick: no node is ever so busy that its models move on.
BY_THE_RING = {"routing": {"replicas": 1, "load_floor": 1e6}}
# And none goes to any node because a busy machine kept the server from answering.
STRICTLY_BY_THE_RING = {**BY_THE_RING, "envoy": {"server_wait_seconds": 30.0}}

_HERE = Path(__file__).parent
_LOG_LINES, _LOG_LINE = 12, 300
_CRASHES = pytest.StashKey[int]()  # how many there had been when the test began


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_CRASHES] = len(Supervisor.crashes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the processes of this moment have logged belongs to every failure that is none of a Triton's own."""
    report = yield
    if report.failed and item.get_closest_marker("triton"):
        excuse(report, item.stash[_CRASHES])
    if report.failed:
        for process in sorted(Process.known, key=lambda each: each.name):
            if tail := process.tail(_LOG_LINES):
                lines = [line[:_LOG_LINE] for line in tail.splitlines()]
                report.sections.append((f"{process.name}: the end of {process.log}", "\n".join(lines)))
    return report


def need_envoy(version: str) -> None:
    try:
        envoy_binary(version)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def need_engine() -> None:
    """Skips where nobody listens; the docker package would leave its socket open after such a failure."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if where.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as engine:
            try:
                engine.connect(where.removeprefix("unix://"))
            except OSError as error:
                pytest.skip(f"no container engine at {where}: {error}")


@pytest.fixture(scope="session")
def repository() -> Path:
    return models.repository(TENANTS)


@pytest.fixture(scope="session")
def names(repository: Path) -> list[str]:
    return sorted(path.name for path in repository.iterdir())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nodes(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, EmbeddedNode]]:
    """Three nodes that hold every model, shared by the edges that no test disturbs."""
    folder = tmp_path_factory.mktemp("nodes")
    started = {name: EmbeddedNode(NodeSpec(name), repository, folder) for name in NODES}
    try:
        for node in started.values():
            await node.start()
        yield started
    finally:
        for node in started.values():
            await node.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def edge_of(
    nodes: dict[str, EmbeddedNode], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Callable[[str], object]]:
    """Gives the edge with an Envoy of some version, in front of `nodes`; each is started once."""
    edges: dict[str, Sidecar] = {}
    async with AsyncExitStack() as stack:

        async def edge(version: str) -> Sidecar:
            need_envoy(version)
            if version not in edges:
                folder = tmp_path_factory.mktemp(f"edge-{version}")
                population = [node.node for node in nodes.values()]
                edges[version] = await stack.enter_async_context(
                    Sidecar(folder, population, envoy=version, sections=STRICTLY_BY_THE_RING)
                )
            return edges[version]

        yield edge


@pytest_asyncio.fixture(params=["1.40", "1.38"], loop_scope="session")
async def edge(request: pytest.FixtureRequest, edge_of: Callable[[str], object]) -> Sidecar:
    """The versions on which every call passes."""
    return await edge_of(request.param)


@pytest_asyncio.fixture(params=["1.40", "1.38", "1.36"], loop_scope="session")
async def any_edge(request: pytest.FixtureRequest, edge_of: Callable[[str], object]) -> Sidecar:
    """The versions on which calls are routed."""
    return await edge_of(request.param)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tensorflow() -> AsyncIterator[tf_client.TfClient]:
    """The real TF Serving client."""
    if reason := tf_client.missing():
        pytest.skip(reason)
    async with tf_client.tf_client() as client:
        yield client


def owner(model: str, nodes: tuple[str, ...] = NODES) -> str:
    """The node that the ring gives a model."""
    ring = Rendezvous((node, 1.0) for node in nodes)
    return ring.ids[ring.order(model)[0]]
