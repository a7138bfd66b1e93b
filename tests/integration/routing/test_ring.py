"""Every protocol, named by path or by body, lands on the node that the ring gives the model."""

from collections.abc import Callable

import numpy as np
import pytest

from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import owner
from tests.integration.raw import channel, rest, rest_client, unary

IMAGE = np.full((1, 64), 8, dtype=np.float32)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("write", [calls.tfs_rest, calls.v2_rest], ids=["tfs", "v2"])
async def test_rest(
    any_edge: Sidecar, nodes: dict[str, EmbeddedNode], names: list[str], write: Callable[..., calls.Rest], http2: bool
) -> None:
    async with rest_client(any_edge.http, http2=http2) as client:
        for model in names:
            for version in ("", "/versions/1"):
                call = write(model, IMAGE, version)
                reply = await rest(client, call.path, call.body, call.headers)
                assert reply.status == 200, reply.body
                assert reply.upstream == nodes[owner(model)].node.rest


@pytest.mark.parametrize("write", [calls.tfs_grpc, calls.v2_grpc], ids=["tfs", "v2"])
async def test_grpc(
    any_edge: Sidecar, nodes: dict[str, EmbeddedNode], names: list[str], write: Callable[..., calls.Grpc]
) -> None:
    async with channel(any_edge.target) as through:
        for model in names:
            call = write(model, IMAGE)
            reply = await unary(through, call.method, call.message)
            assert reply.code == "OK", reply.details
            assert reply.upstream == nodes[owner(model)].node.grpc


async def test_a_header_of_the_mesh_names_the_model_of_a_grpc_call(
    any_edge: Sidecar, nodes: dict[str, EmbeddedNode], names: list[str]
) -> None:
    async with channel(any_edge.target) as through:
        for model in names:
            call = calls.v2_grpc(model, IMAGE)
            reply = await unary(through, call.method, call.message, [("x-tbms-model", model)])
            assert reply.code == "OK", reply.details
            assert reply.upstream == nodes[owner(model)].node.grpc


async def test_the_models_are_spread_over_all_nodes(names: list[str], nodes: dict[str, EmbeddedNode]) -> None:
    assert {owner(model) for model in names} == set(nodes)
