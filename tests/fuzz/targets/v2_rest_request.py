"""Bodies of V2 REST inferences with their binary data, as the embedded model server reads them."""

import json
from types import SimpleNamespace
from typing import Any

from mesh.model_server.errors import ServingError
from mesh.model_server.v2 import rest_request
from mesh.tensors.dtypes import BY_V2, TensorSpec
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets.json_text import WORDS

OUTPUTS = [TensorSpec("y", BY_V2["FP32"], (-1,)), TensorSpec("z", BY_V2["BYTES"], (-1,))]
MODELS: tuple[Any, ...] = (
    SimpleNamespace(inputs=[TensorSpec("x", BY_V2["FP32"], (-1, 2))], outputs=OUTPUTS),
    SimpleNamespace(
        inputs=[TensorSpec("a", BY_V2["INT8"], (-1,)), TensorSpec("s", BY_V2["BYTES"], (-1,))], outputs=OUTPUTS
    ),
    SimpleNamespace(inputs=[TensorSpec("t", BY_V2["BOOL"], ())], outputs=OUTPUTS),
)


def run(data: bytes) -> None:
    reader = Reader(data)
    model = reader.pick(MODELS)
    length = reader.number(1 << 16) if reader.flag() else None
    body = reader.rest()
    try:
        request = rest_request.decode("m", model, body, None if length is None else min(length, len(body)))
    except ServingError as error:
        error.message.encode(errors="surrogateescape")
        return
    assert request.inputs.keys() <= {spec.name for spec in model.inputs}
    assert request.binary <= {"y", "z"}


INPUT = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
BINARY = json.dumps({"id": "1", "inputs": [INPUT], "parameters": {"binary_data_output": True}}).encode()
TARGET = Target(
    run,
    (
        b"\0\1" + len(BINARY).to_bytes(4, "big") + BINARY + bytes(8),
        b'\0\0{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}], '
        b'"outputs": [{"name": "y"}]}',
        b'\1\0{"inputs": [{"name": "a", "shape": [1], "datatype": "INT8", "data": [1]}, '
        b'{"name": "s", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}',
        b"\0\1\0\0\0\0" + bytes(16),
    ),
    (
        b'"inputs": [',
        b'"outputs": [',
        b'{"name": "x"}',
        b'"shape": [',
        b'"datatype": "BYTES"',
        b'"data": ',
        b'"parameters": {',
        b'"binary_data_size": ',
        b'"classification": ',
        b'"shared_memory_region": ',
        b'"sequence_id": ',
        *WORDS,
    ),
)
