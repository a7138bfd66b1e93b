"""The body of a V2 REST answer: JSON, and the binary data that follow it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.model_server.v2 import json_tensor, triton_json
from mesh.model_server.v2.rest_request import InferBody
from mesh.tensors.dtypes import Array, TensorSpec
from mesh.tensors.v2 import to_raw


def encode(
    model_name: str, version: int, specs: Sequence[TensorSpec], request: InferBody, results: Mapping[str, Array]
) -> tuple[bytes, list[bytes]]:
    """The JSON of an answer, and the binary data that follow it, in order. Raises ServingError."""
    document: dict[str, Any] = {"id": request.id} if request.id else {}
    document |= {"model_name": model_name, "model_version": str(version)}
    datatypes = {spec.name: spec.dtype.v2 for spec in specs}
    chunks: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for name, array in results.items():
        output: dict[str, Any] = {"name": name, "datatype": datatypes[name], "shape": list(array.shape)}
        if name in request.binary:
            chunks.append(to_raw(array))
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = json_tensor.write(datatypes[name], array)
        outputs.append(output)
    document["outputs"] = outputs
    return triton_json.compact(document), chunks
