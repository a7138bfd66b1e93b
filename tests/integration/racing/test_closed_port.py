"""A primary whose node is gone: its port is closed, and no probe has found out yet."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from ext_proc.wire.call import InferenceProtocol
from integration.stack.ports import free_ports
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from tests.integration.conftest import need_envoy
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part, puppet
from tests.integration.racing.racing import RULES, Client

VERSIONS = ("1.40", "1.38")
# The primary would be waited for until long after any test's patience, were its closed port not noticed.
LONG = {"tloc": "20000;est=10000", "backup": "svm;est=1000"}


@pytest_asyncio.fixture(scope="module", params=VERSIONS, loop_scope="session")
async def half_gone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    need_envoy(request.param)
    grpc, rest = free_ports(2)
    gone = Node("gone", grpc=f"127.0.0.1:{grpc}", rest=f"127.0.0.1:{rest}", models=frozenset({"bert"}))
    folder = tmp_path_factory.mktemp("gone")
    egress = {} if request.param == "1.38" else {"egress": f"unix:{folder}/egress.sock"}
    sections = {"broker": RULES, "probe": {"enabled": False}, "envoy": egress}
    async with puppet() as show:
        nodes = [gone, replace(show.node, models=frozenset({"svm"}))]
        async with (
            Sidecar(folder, nodes, envoy=request.param, sections=sections) as edge,
            Client(edge) as client,
        ):
            yield Stage(edge, client, show)


@pytest.mark.parametrize("protocol", list(InferenceProtocol))
async def test_another_node_is_asked_for_the_same_model(half_gone: Stage, protocol: InferenceProtocol) -> None:
    """Envoy sends on what was provably not processed, so that the best candidate still answers, and no backup runs."""
    half_gone.plays(bert=Part(1), svm=Part(2))
    got = await half_gone.client.call(protocol, "bert", LONG)
    assert (got.value, got.tell("rank"), got.tell("why")) == (1, "0", "primary"), got.answer
    node = half_gone.puppet.node
    assert got.tell("node") == (node.grpc if protocol.is_grpc else node.rest)
    assert [call.model for call in half_gone.puppet.calls] == ["bert"]
