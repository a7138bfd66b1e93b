"""Small ONNX models, made on the spot."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str]


def save(graph: onnx.GraphProto, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=9
    )
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return folder


def scaling(folder: Path, factor: float = 2.0, rows: int | str = "rows") -> Path:
    """y = x * factor, both float32 of [rows, 2]."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    return save(graph, folder)


def echo(folder: Path, onnx_type: int, shape: Shape = ("rows",), name: str = "x", result: str = "y") -> Path:
    """`result` = `name`, of any type."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [result])],
        "echo",
        [helper.make_tensor_value_info(name, onnx_type, shape)],
        [helper.make_tensor_value_info(result, onnx_type, shape)],
    )
    return save(graph, folder)


def two(folder: Path) -> Path:
    """sum = a + b, difference = a - b, all float32 of [rows]."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in "ab"],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in ("sum", "difference")],
    )
    return save(graph, folder)


def failing(folder: Path) -> Path:
    """Fails in the run unless x holds 4 elements: it reshapes [n] to [2, 2]."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "failing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [2, 2])],
    )
    return save(graph, folder)


def labels(folder: Path, known: Sequence[bytes]) -> Path:
    """y = the place of the string x in `known`, -1 if it is not there; both of [rows]."""
    graph = helper.make_graph(
        [
            helper.make_node(
                "LabelEncoder",
                ["x"],
                ["y"],
                domain="ai.onnx.ml",
                keys_strings=list(known),
                values_int64s=list(range(len(known))),
                default_int64=-1,
            )
        ],
        "labels",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["rows"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["rows"])],
    )
    return save(graph, folder)
