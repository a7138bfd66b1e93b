"""The outputs of a reply as arrays, for mixes: floats and integers only. What the codecs share in reading them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ext_proc.errors import TbmsError
from ext_proc.wire import json_writing
from ext_proc.wire.names import quoted
from mesh.tensors.dtypes import DType

Array = NDArray[Any]
Outputs = Mapping[str, Array]


class OutputError(TbmsError, ValueError):
    """A reply whose outputs cannot be read as arrays; the message names the output and its type."""


def read_object(text: bytes) -> dict[str, Any]:
    """The JSON object that a REST reply is. NaN and Infinity are numbers, as both servers write them.

    Raises OutputError.
    """
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        raise OutputError("The reply is not valid JSON.") from None
    if not isinstance(reply, dict):
        raise OutputError("The reply is not a JSON object.")
    return reply


def write_object(reply: Mapping[str, Any], separators: tuple[str, str] | None = None) -> bytes:
    """The JSON text of a reply. Raises OutputError for half a surrogate pair, which no text can hold."""
    try:
        return json_writing.write(reply, separators)
    except UnicodeEncodeError:
        raise OutputError("The reply holds half a surrogate pair, which is no text.") from None
    except RecursionError:
        raise OutputError("The reply is nested too deeply.") from None


def check_numeric(name: str, dtype: DType | None, called: str) -> DType:
    """The type, if it is a float or an integer. `called` is its name in the reply; None stands for one unheard of."""
    if dtype is None or dtype.numpy.kind not in "fiu":
        raise OutputError(f"The output {quoted(name)} is of type {quoted(called)}, which is neither float nor integer.")
    return dtype


def from_numbers(
    name: str, values: Any, dtype: np.dtype[Any] | None = None, shape: Sequence[int] | None = None
) -> Array:
    """The array of a JSON value: a number, or lists of numbers nested to equal depths.

    Without a dtype it is int64 (uint64 where the values need it) if all numbers are integers, otherwise float64. With
    a shape, nesting does not count, only the order. Raises OutputError.
    """
    objects = np.array(values, object)
    kinds = set(map(type, objects.ravel().tolist()))
    if not kinds <= {int, float}:
        raise OutputError(f"The output {quoted(name)} holds {_strange(kinds)}.")
    if dtype is None:
        dtype = np.dtype(np.int64) if kinds == {int} else np.dtype(np.float64)
        if kinds == {int} and max(objects.ravel()) > np.iinfo(np.int64).max:
            dtype = np.dtype(np.uint64)
    elif dtype.kind != "f" and float in kinds:
        raise OutputError(f"The output {quoted(name)} of type {dtype} holds a number that is no integer.")
    try:
        with np.errstate(over="ignore"):  # beyond a float's range it is infinite
            return objects.astype(dtype).reshape(objects.shape if shape is None else tuple(shape))
    except (OverflowError, ValueError):
        wanted = "" if shape is None else f" of shape {list(shape)}"
        raise OutputError(f"The output {quoted(name)} does not hold the numbers of {dtype}{wanted}.") from None


def check_names(outputs: Outputs, names: Sequence[str]) -> None:
    """Raises OutputError unless every output that is to be replaced is one of these names."""
    known = set(names)  # a list would be searched for each of what may be thousands
    for name in outputs:
        if name not in known:
            raise OutputError(f"The reply has no output {quoted(name)} to replace.")


def _strange(kinds: set[type]) -> str:
    if kinds & {str, dict}:
        return "strings, which is neither float nor integer"
    if bool in kinds:
        return "values of type bool, which is neither float nor integer"
    return "lists of unequal lengths" if list in kinds else "values that are no numbers"
