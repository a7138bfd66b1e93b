"""One ONNX model: what can be served, and strings."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from mesh.model_server.errors import ServingError
from mesh.model_server.runtime import OnnxModel
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
    with pytest.raises(ServingError, match="'x' holds a string that is not UTF-8"):
        model.run({"x": np.array([b"\xff"], object)}, ["y"])
