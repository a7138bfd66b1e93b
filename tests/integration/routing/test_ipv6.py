"""Nodes at IPv6 addresses: probed, called over both protocols, and named where Envoy looks for them."""

import socket
from pathlib import Path

import numpy as np
import pytest

from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING, need_envoy, owner
from tests.integration.raw import channel, rest, rest_client, unary

pytestmark = pytest.mark.envoy

IMAGE = np.full((1, 64), 8, dtype=np.float32)
PLACES = {"node-a": "127.0.0.1", "node-b": "::1"}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
async def test_a_node_at_an_ipv6_address_is_one_as_any_other(
    repository: Path, names: list[str], tmp_path: Path
) -> None:
    need_envoy("1.40")
    nodes = {id: EmbeddedNode(NodeSpec(id, host=host), repository, tmp_path) for id, host in PLACES.items()}
    try:
        for node in nodes.values():
            await node.start()
        async with Sidecar(tmp_path, [node.node for node in nodes.values()], sections=BY_THE_RING) as edge:
            async with rest_client(edge.http) as client, channel(edge.target) as through:
                for model in names:
                    home = nodes[owner(model, tuple(PLACES))].node
                    on_rest, on_grpc = calls.tfs_rest(model, IMAGE), calls.tfs_grpc(model, IMAGE)
                    reply = await rest(client, on_rest.path, on_rest.body, {**on_rest.headers, "tloc": "60000"})
                    assert (reply.status, reply.headers["tbms-answer"].count(f'node="{home.rest}"')) == (200, 1)
                    plain = await rest(client, on_rest.path, on_rest.body, on_rest.headers)
                    assert (plain.status, plain.upstream) == (200, home.rest)
                    answer = await unary(through, on_grpc.method, on_grpc.message)
                    assert (answer.code, answer.upstream) == ("OK", home.grpc)
            assert {owner(model, tuple(PLACES)) for model in names} == set(PLACES)
            assert all(node["alive"] for node in (await edge.status())["nodes"])
    finally:
        for node in nodes.values():
            await node.stop()
