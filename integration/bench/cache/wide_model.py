"""A model of any size whose calls and loads take what is said: simulated, on the embedded model server."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FEATURES = 64


def write_model(shelf: Path, name: str, width: int, **knobs: float) -> None:
    """A model with `width` x 64 weights that answers `x` (FP32, [-1, 64]) with one number a row.

    `knobs` are those of its tbms.json, as `load_delay_ms`.
    """
    weights = np.random.default_rng(width).standard_normal((FEATURES, width), dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["y"], axes=[1], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = shelf / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (shelf / name / "tbms.json").write_text(json.dumps(knobs))
