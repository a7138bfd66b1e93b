"""Sidecars as live control planes made them, patched by our policies, on the Envoys that those bring along.

A client's sidecar, mTLS, a node's sidecar, a model server that starts empty; a tbms server beside each of the two.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ext_proc.known.file import make_if_absent
from ext_proc.kuma.rendering.description import KNOWN_MAP
from integration.kuma.decided import decided
from integration.kuma.servers import MeshServers
from integration.kuma.sidecars import ENVOYS, Mesh, node_places
from integration.stack.models import digits
from integration.stack.ports import free_ports
from tests.integration.calls import tfs_grpc, tfs_rest
from tests.integration.conftest import need_envoy
from tests.integration.raw import RestReply, channel, rest, rest_client, unary

pytestmark = pytest.mark.envoy

# Each with a model of its own, which no call before has had loaded.
SAMPLES = {"2.13/legacy-mtls": "acme-bayes", "2.14/kri-mtls": "acme-centroid", "3.0/kri-mtls": "birch-bayes"}


@dataclass
class Scene:
    """Two patched sidecars and that of a stranger, without patches; `model` is not loaded yet."""

    mesh: Mesh
    servers: MeshServers
    model: str

    async def call(self, base: str) -> RestReply:
        call = tfs_rest(self.model, digits()[1].images[:2])
        async with rest_client(base) as client:
            return await rest(client, call.path, call.body, call.headers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[MeshServers, list[int]]]:
    """The servers, and the ports at which every mesh of this module stands."""
    ports = free_ports(9)
    folder = tmp_path_factory.mktemp("mesh")
    async with MeshServers(folder, repository, *node_places(ports), models=frozenset(SAMPLES.values())) as started:
        yield started, ports


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=SAMPLES)
async def scene(
    request: pytest.FixtureRequest, servers: tuple[MeshServers, list[int]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    sample: str = request.param
    envoy = ENVOYS[sample.partition("/")[0]]
    need_envoy(envoy)
    started, ports = servers
    folder = tmp_path_factory.mktemp("sidecars")
    async with Mesh(sample, folder, started.behind, stranger=True, ports=ports) as mesh:
        yield Scene(mesh, started, SAMPLES[sample])


async def test_calls_go_from_sidecar_to_sidecar_to_the_model_server(scene: Scene) -> None:
    edge, node = await decided(scene.servers.edge_admin), await decided(scene.servers.node_admin)
    first = await scene.call(scene.mesh.rest)
    assert first.status == 200
    # It was not loaded: the node's server has seen to that.
    direct = await scene.call(scene.servers.model_server.rest)
    assert (direct.status, direct.body) == (200, first.body)
    message = tfs_grpc(scene.model, digits()[1].images[:2])
    async with channel(scene.mesh.grpc) as through, channel(scene.servers.model_server.grpc) as behind:
        reply = await unary(through, message.method, message.message)
        assert (reply.code, reply.message) == ("OK", (await unary(behind, message.method, message.message)).message)
    assert await decided(scene.servers.edge_admin) > edge
    assert await decided(scene.servers.node_admin) == node + 2
    assert await stat(scene.mesh.admin("node"), "listener.*ssl.handshake") >= 1
    assert await stat(scene.mesh.admin("node"), "listener.*ssl.no_certificate") == 0


async def test_known_calls_ask_neither_server(scene: Scene) -> None:
    admins = (scene.servers.edge_admin, scene.servers.node_admin)
    for _ in range(600):
        before = [await decided(admin) for admin in admins]
        assert (await scene.call(scene.mesh.rest)).status == 200
        if [await decided(admin) for admin in admins] == before:
            return
    pytest.fail("the call never became known at both ends")


async def test_a_denied_caller_is_refused_before_the_server_hears_of_it(scene: Scene) -> None:
    before = await decided(scene.servers.node_admin)
    opened = await stat(scene.mesh.admin("node"), "ext_proc.*streams_started")
    for _ in range(3):
        reply = await scene.call(scene.mesh.stranger_rest)
        assert (reply.status, reply.body) == (403, b"RBAC: access denied")
    assert await decided(scene.servers.node_admin) == before
    assert await stat(scene.mesh.admin("node"), "ext_proc.*streams_started") == opened > 0


async def test_a_denied_caller_is_refused_with_the_server_away(scene: Scene, tmp_path: Path) -> None:
    make_if_absent(tmp_path / Path(KNOWN_MAP).name)
    nobody = replace(scene.servers.behind, client_folder=tmp_path, node_folder=tmp_path)
    sidecars = Mesh(scene.mesh.sample, tmp_path / "mesh", nobody, stranger=True)
    async with sidecars as mesh:
        reply = await scene.call(mesh.stranger_rest)
        assert (reply.status, reply.body) == (403, b"RBAC: access denied")
        assert await stat(mesh.admin("node"), "ext_proc.*streams_started") == 0


async def stat(admin: str, name: str) -> int:
    """The sum of those of Envoy's counters whose names match."""
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{admin}/stats", params={"filter": name})).text.splitlines()
    return sum(int(line.rpartition(": ")[2]) for line in lines if ": " in line)
