"""`tbms model-server` as a command: what it says of itself, and that calls add nothing to it."""

import re
from pathlib import Path

import httpx

from integration.stack.process import Process
from integration.stack.sidecar import TBMS
from tests.mesh.model_server import graphs


async def test_it_says_which_models_it_has_and_why_not_others(tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "models" / "double" / "1", 2)
    broken = tmp_path / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"no model")
    command = [TBMS, "model-server", "--repository", tmp_path / "models", "--grpc-port", "0", "--rest-port", "0"]
    server = Process("model server", command, tmp_path / "server.log")

    async def ready() -> bool:
        return "rest 127.0.0.1:" in server.tail()

    await server.start(ready)
    try:
        said = server.tail()
        assert "model loaded model=double version=1" in said
        assert re.search(r"model did not load model=broken error=version 1: .*broken/1/model\.onnx", said)
        port = said.rpartition(":")[2].strip()
        async with httpx.AsyncClient(trust_env=False) as http:
            url = f"http://127.0.0.1:{port}/v1/models/double:predict"
            assert (await http.post(url, json={"instances": [[1.0, 2.0]]})).json() == {"predictions": [[2.0, 4.0]]}
        assert server.tail() == said, "no line for each call"
    finally:
        await server.stop()
