"""The element types that are served, with the name that each API gives them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mesh.protos import tfs_pb2 as tfs

Array = NDArray[np.generic]
"""Any array that goes into or comes out of a model. Strings are object arrays of `bytes`."""


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    `onnx` is ONNX Runtime's name, `tf` the number in TensorFlow's DataType and `tf_name` its DataTypeString, `v2` the
    datatype of the V2 protocol. `tf_field` and `v2_field` are the typed fields that carry it (None: raw only).
    """

    numpy: np.dtype[np.generic]
    onnx: str
    tf: tfs.DataType
    tf_name: str
    tf_field: str
    v2: str
    v2_field: str | None

    @property
    def config(self) -> str:
        """The name in a Triton model configuration."""
        return "TYPE_STRING" if self is STRING else f"TYPE_{self.v2}"


def _dtype(
    numpy: str, onnx: str, tf: tfs.DataType, tf_name: str, tf_field: str, v2: str, v2_field: str | None
) -> DType:
    return DType(np.dtype(numpy), f"tensor({onnx})", tf, tf_name, tf_field, v2, v2_field)


STRING = _dtype("O", "string", tfs.DT_STRING, "string", "string_val", "BYTES", "bytes_contents")
BOOL = _dtype("?", "bool", tfs.DT_BOOL, "bool", "bool_val", "BOOL", "bool_contents")
HALF = _dtype("<f2", "float16", tfs.DT_HALF, "half", "half_val", "FP16", None)
FLOAT = _dtype("<f4", "float", tfs.DT_FLOAT, "float", "float_val", "FP32", "fp32_contents")
DOUBLE = _dtype("<f8", "double", tfs.DT_DOUBLE, "double", "double_val", "FP64", "fp64_contents")

DTYPES = (
    STRING,
    BOOL,
    HALF,
    FLOAT,
    DOUBLE,
    _dtype("<i1", "int8", tfs.DT_INT8, "int8", "int_val", "INT8", "int_contents"),
    _dtype("<i2", "int16", tfs.DT_INT16, "int16", "int_val", "INT16", "int_contents"),
    _dtype("<i4", "int32", tfs.DT_INT32, "int32", "int_val", "INT32", "int_contents"),
    _dtype("<i8", "int64", tfs.DT_INT64, "int64", "int64_val", "INT64", "int64_contents"),
    _dtype("<u1", "uint8", tfs.DT_UINT8, "uint8", "int_val", "UINT8", "uint_contents"),
    _dtype("<u2", "uint16", tfs.DT_UINT16, "uint16", "int_val", "UINT16", "uint_contents"),
    _dtype("<u4", "uint32", tfs.DT_UINT32, "uint32", "uint32_val", "UINT32", "uint_contents"),
    _dtype("<u8", "uint64", tfs.DT_UINT64, "uint64", "uint64_val", "UINT64", "uint64_contents"),
)
BY_ONNX = {dtype.onnx: dtype for dtype in DTYPES}
BY_TF = {dtype.tf: dtype for dtype in DTYPES}
BY_V2 = {dtype.v2: dtype for dtype in DTYPES}
BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model; -1 in `shape` stands for any size."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            want in (-1, size) for want, size in zip(self.shape, shape, strict=True)
        )
