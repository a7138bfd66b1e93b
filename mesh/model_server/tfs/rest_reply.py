"""Arrays into TF Serving's REST answers, printed as it prints them (its util/json_tensor.cc)."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mesh.model_server import rapidjson
from mesh.model_server.errors import invalid
from mesh.tensors.dtypes import Array


def encode(outputs: Mapping[str, Array], rows: bool) -> str:
    """The answer to a :predict, printed as TF Serving prints it. Raises ServingError."""
    values = {name: _values(name, array) for name, array in outputs.items()}
    if rows:
        return _rows(outputs, values)
    (only, *others) = values.values()
    return rapidjson.pretty({"outputs": values if others else only})


def _rows(outputs: Mapping[str, Array], values: Mapping[str, Any]) -> str:
    size: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and size != len(array):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    # TF Serving changes the printer's format on the way: a plain item follows the last one on its line, an object
    # has lines of its own, and so has the closing bracket.
    if len(values) == 1:
        (items,) = values.values()
        text = ", ".join(rapidjson.pretty(item, level=2, single_line_arrays=True) for item in items)
    else:
        objects = (dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True))
        text = ",".join(f"\n        {rapidjson.pretty(row, level=2, single_line_arrays=True)}" for row in objects)
    return f'{{\n    "predictions": [{text}\n    ]\n}}' if text else '{\n    "predictions": []\n}'


def _values(name: str, array: Array) -> Any:
    if array.dtype == np.float32:
        return _floats(array)
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        return _map(array.tolist(), lambda element: _string(element, as_bytes))
    if array.dtype in (np.float16, np.uint16):
        dtype_name = "half" if array.dtype == np.float16 else "uint16"
        raise invalid(f"Failed to write JSON value for tensor type: {dtype_name}")
    return array.tolist()


def _floats(array: Array) -> Any:
    """Nested lists that keep float32 elements as such: their shortest text differs from a double's."""
    return list(array) if array.ndim == 1 else [_floats(row) for row in array] if array.ndim else array[()]


def _string(element: bytes, as_bytes: bool) -> Any:
    return {"b64": base64.b64encode(element).decode()} if as_bytes else element.decode("utf-8", "surrogateescape")


def _map(value: Any, convert: Callable[[Any], Any]) -> Any:
    return [_map(element, convert) for element in value] if isinstance(value, list) else convert(value)
