"""What the tables of V2 over REST share. The models are those of `servers.py`, on a real Triton and on ours."""

import struct
from typing import Any

from tests.integration.parity.row import Has, Http
from tests.integration.parity.rows.words import X, Y, as_json

PAIR = struct.pack("<2f", 1, 2)
REPLY = Has({"outputs": [Y]})
BARE = {key: value for key, value in X.items() if key != "data"}
SPEC = "https://kserve.github.io/website/latest/modelserving/data_plane/v2_protocol/"
BINARY = "https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md"
SOURCE = "triton-inference-server/server: src/http_server.cc"
PLAIN = {"content-type": "text/plain"}
NO_ID = "[request id: <id_unknown>] "


def binary(
    data: bytes, declared: dict[str, Any], model: str = "double", length: int | None = None, **document: Any
) -> Http:
    head = as_json({"inputs": [declared], **document})
    size = str(len(head) if length is None else length)
    return Http("POST", f"/v2/models/{model}/infer", head + data, {"Inference-Header-Content-Length": size})


def sized(given: dict[str, Any], size: int) -> dict[str, Any]:
    return {**given, "parameters": {"binary_data_size": size}}


def strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)
