"""One ONNX model: what can be served, and strings."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mesh.model_server.errors import ServingError, StatusCode
from mesh.model_server.runtime import OnnxModel, StringsError
from tests.mesh.model_server import graphs


@pytest.mark.parametrize("onnx_type", [onnx.TensorProto.BFLOAT16, onnx.TensorProto.COMPLEX64])
def test_types_that_cannot_be_served(tmp_path: Path, onnx_type: int) -> None:
    folder = graphs.echo(tmp_path, onnx_type)
    with pytest.raises(ServingError):
        OnnxModel(folder / "model.onnx")


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ServingError, match=r"pip install 'tbms\[onnx\]'"):
        OnnxModel(tmp_path / "model.onnx")


def test_strings_go_through_onnxruntime(tmp_path: Path) -> None:
    model = OnnxModel(graphs.echo(tmp_path, onnx.TensorProto.STRING) / "model.onnx")
    (result,) = model.run({"x": np.array([b"a", "é".encode()], object)}, ["y"])
    assert result.tolist() == [b"a", "é".encode()]


IMAGE = b"\xff\xd8\xff\xe0\0\x10JFIF\0"  # how a JPEG begins


def strings(*elements: bytes) -> np.ndarray[Any, Any]:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


def test_strings_are_bytes(tmp_path: Path) -> None:
    model = OnnxModel(graphs.labels(tmp_path, [IMAGE, "é\0a".encode()]) / "model.onnx")
    (result,) = model.run({"x": strings(IMAGE, IMAGE[::-1], IMAGE)}, ["y"])
    assert result.tolist() == [0, -1, 0]
    (result,) = model.run({"x": strings(IMAGE).reshape(1)}, ["y"])
    assert result.tolist() == [0]
    (result,) = model.run({"x": strings("é\0a".encode(), b"", "é\0a\0".encode())}, ["y"])  # texts of any length
    assert result.tolist() == [1, -1, -1]


def test_strings_that_onnxruntime_cannot_take_are_named(tmp_path: Path) -> None:
    model = OnnxModel(graphs.labels(tmp_path, [IMAGE]) / "model.onnx")
    with pytest.raises(
        StringsError, match="input 'x' holds strings that are not UTF-8 and not of one length"
    ) as caught:
        model.run({"x": strings(IMAGE, b"a")}, ["y"])
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


def test_an_output_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    model = OnnxModel(graphs.echo(tmp_path, onnx.TensorProto.STRING) / "model.onnx")
    with pytest.raises(ServingError, match="output 'y' holds a string that is not UTF-8") as caught:
        model.run({"x": strings(IMAGE)}, ["y"])
    assert caught.value.code is StatusCode.INTERNAL
