"""A gRPC call that only its body names is read once: the edge tells the node by a header."""

from pathlib import Path

import httpx
import pytest
from tritonclient.grpc import service_pb2 as pb

from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.stack import Stack
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import write_onnx
from tests.integration.raw import channel, unary


async def conversations(node: CachedNode) -> dict[str, int]:
    """How many the node's Envoy has had with its server, by the way in which they were held."""
    async with httpx.AsyncClient(trust_env=False) as admin:
        text = (await admin.get(f"{node.agent.envoy_admin}/stats?filter=ext_proc.*streams_started")).text
    counts = (line.rsplit(": ", 1) for line in text.splitlines())
    return {name.split(".ext_proc.")[1].split(".")[0]: int(count) for name, count in counts}


@pytest.mark.parametrize("version", ["1.40", "1.38"])
async def test_the_node_does_not_read_the_body_again(tmp_path: Path, version: str) -> None:
    need_envoy(version)
    write_onnx(tmp_path / "shelf", "m")
    spec = CachedSpec("n", envoy=version)
    async with Stack(tmp_path / "shelf", [spec], envoy=version) as stack, channel(stack.edge.target) as through:
        request = pb.ModelInferRequest(model_name="m", model_version="1")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, 2.0])
        reply = await unary(through, calls.V2_INFER, request.SerializeToString(), timeout=20)
        assert reply.code == "OK", reply.details
        node = stack.nodes["n"]
        assert await node.states() == {"m:1": "available"}
        counts = await conversations(node)
        assert counts.pop("open") == 1
        assert not any(counts.values())
        request.model_version = "2"
        reply = await unary(through, calls.V2_INFER, request.SerializeToString(), timeout=20)
        assert (reply.code, "version 2" in reply.details) == ("NOT_FOUND", True), reply.details
