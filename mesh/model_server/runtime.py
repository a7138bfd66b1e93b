"""One ONNX model in memory, run by ONNX Runtime on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.tensors.dtypes import BY_ONNX, STRING, Array, TensorSpec


def onnx_runtime() -> Any:
    """ONNX Runtime, imported when it is first needed. Raises ServingError where this extra is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ServingError(
            StatusCode.FAILED_PRECONDITION, "ONNX Runtime is not installed: pip install 'tbms[onnx]' to serve models"
        ) from error
    return onnxruntime


class StringsError(ServingError):
    """An input's strings cannot be handed to ONNX Runtime: the request's fault, not that of a run."""


class OnnxModel:
    """A loaded model. `run` may be called from many threads at once."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load `path`, giving each run `threads` threads. Blocks. Raises ServingError if it cannot be served."""
        ort = onnx_runtime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; they come back as exceptions anyway
        self._rejected = ort.capi.onnxruntime_pybind11_state.InvalidArgument
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base for its errors
            raise invalid(f"onnx runtime error: {error}") from error
        self.inputs = tuple(_spec(node, "input") for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node, "output") for node in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The named outputs for arrays of the declared types.

        Raises ServingError: INVALID_ARGUMENT if ONNX Runtime rejects an array (StringsError if it cannot be given to
        it), INTERNAL if the run fails.
        """
        feeds = {name: _strings(name, array) if array.dtype == object else array for name, array in inputs.items()}
        try:
            results: list[Any] = self._session.run(list(outputs), feeds)
        except self._rejected as error:
            raise invalid(str(error)) from error
        except UnicodeDecodeError as error:
            names = [f"'{spec.name}'" for spec in self.outputs if spec.dtype is STRING and spec.name in outputs]
            raise ServingError(
                StatusCode.INTERNAL,
                f"{'one of the outputs' if len(names) > 1 else 'output'} {', '.join(names)} holds a string that is not "
                "UTF-8, which ONNX Runtime's Python API cannot give out",
            ) from error
        except Exception as error:  # see above
            raise ServingError(StatusCode.INTERNAL, f"onnx runtime error: {error}") from error
        return [_to_bytes(result) if result.dtype.kind in "OU" else result for result in results]


def _spec(node: Any, what: str) -> TensorSpec:
    dtype = BY_ONNX.get(node.type)
    if dtype is None:
        raise invalid(f"{what} '{node.name}' has the type {node.type}, which is not a tensor that can be served")
    return TensorSpec(node.name, dtype, tuple(size if isinstance(size, int) else -1 for size in node.shape))


def _strings(name: str, array: Array) -> Array:
    """Strings as ONNX Runtime's Python API takes them: as `str`, or byte by byte where all have one length."""
    elements: list[bytes] = array.ravel().tolist()
    try:
        text = [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        lengths = {len(element) for element in elements}
        if len(lengths) == 1:  # void elements, unlike those of `S`, keep their NULs
            return np.array(elements, f"V{lengths.pop()}").reshape(array.shape)
        raise StringsError(
            StatusCode.INVALID_ARGUMENT,
            f"input '{name}' holds strings that are not UTF-8 and not of one length, which ONNX Runtime's Python API "
            "cannot take in one call: send each in a call of its own",
        ) from error
    result = np.empty(len(text), STRING.numpy)
    result[:] = text
    return result.reshape(array.shape)


def _to_bytes(array: Array) -> Array:
    elements = [str(element).encode() for element in array.ravel().tolist()]
    result = np.empty(len(elements), STRING.numpy)
    result[:] = elements
    return result.reshape(array.shape)
