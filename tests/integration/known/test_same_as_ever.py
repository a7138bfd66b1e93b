"""Bad input, fidelity and the ring again, over an edge whose Envoy knows the calls of every model."""

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio

from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import STRICTLY_BY_THE_RING, need_envoy
from tests.integration.known.asked import until_known
from tests.integration.routing.test_bad_input import (
    test_a_bad_call_does_not_disturb_its_neighbours as test_a_bad_call_does_not_disturb_its_neighbours,
)
from tests.integration.routing.test_bad_input import test_grpc as test_bad_grpc
from tests.integration.routing.test_bad_input import test_rest as test_bad_rest
from tests.integration.routing.test_ring import (
    test_a_header_of_the_mesh_names_the_model_of_a_grpc_call as test_named_grpc,
)
from tests.integration.routing.test_ring import test_rest as test_ring_rest

__all__ = ["test_bad_grpc", "test_bad_rest", "test_named_grpc", "test_ring_rest"]

IMAGE = np.full((1, 64), 8, dtype=np.float32)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.36", "1.40"])
async def edge(
    request: pytest.FixtureRequest,
    nodes: dict[str, EmbeddedNode],
    names: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Sidecar]:
    """All nodes declare all models, and each model was called already."""
    need_envoy(request.param)
    declared = [replace(node.node, models=frozenset(names)) for node in nodes.values()]
    folder = tmp_path_factory.mktemp(f"same-{request.param}")
    async with Sidecar(folder, declared, envoy=request.param, sections=STRICTLY_BY_THE_RING) as running:
        for write in (calls.tfs_rest, calls.v2_rest):
            for model in names:
                call = write(model, IMAGE)
                await until_known(running, call.path, call.body or b"", call.headers)
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def any_edge(edge: Sidecar) -> Sidecar:
    return edge
