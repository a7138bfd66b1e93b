"""The whole way, edge and node, and beside it the same two Envoys without tbms."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from integration.peers.answerer import answerer
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.onnx_graphs import from_layers
from integration.stack.ports import free_port
from integration.stack.sidecar import Section, Sidecar


@dataclass(frozen=True)
class Fleet:
    """`sidecars` are an edge and the node behind it. At `direct` calls go by `edge_without`, another edge's Envoy, to a
    listener of the same node's Envoy that asks nobody.
    """

    sidecars: Sequence[Sidecar]
    direct: str
    edge_without: Sidecar


@asynccontextmanager
async def fleet(folder: Path, model: str) -> AsyncIterator[Fleet]:
    """The fleet, of one node that can load this model. Calls for it are answered by an Envoy.

    Only what loads and unloads is a model server's work: an inference of its own would blur everything.
    """
    shelf, of_node = folder / "shelf", folder / "node"
    version = shelf / model / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(from_layers([np.eye(2, dtype=np.float32)], [None]).SerializeToString())
    repository = of_node / "cache" / "models"
    repository.mkdir(parents=True)
    past_node, past_edge = (f"127.0.0.1:{free_port()}" for _ in range(2))
    quiet: dict[str, Section] = {"server": {"log": {"level": "warning"}}}
    async with AsyncExitStack() as stack:
        models = EmbeddedNode(NodeSpec("models", models=frozenset()), repository, folder)
        stack.push_async_callback(models.stop)
        await models.start()
        upstream = await stack.enter_async_context(answerer(of_node, models.grpc))
        node = CachedNode(CachedSpec("node", log="warning", known=True), shelf, of_node, Served(upstream, upstream))
        node.agent.add_to("envoy", {"direct_listen": past_node})
        await stack.enter_async_context(node)
        edge = Sidecar(_made(folder / "edge"), [node.node], sections=quiet)
        await stack.enter_async_context(edge)
        without = replace(node.node, grpc=past_node, rest=past_node, residency=None)
        sections = {**quiet, "envoy": {"direct_listen": past_edge}}
        edge_without = Sidecar(_made(folder / "edge-without"), [without], sections=sections)
        stack.push_async_callback(edge_without.stop)
        await edge_without.start_envoy_first()
        yield Fleet((edge, node.agent), f"http://{past_edge}", edge_without)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
