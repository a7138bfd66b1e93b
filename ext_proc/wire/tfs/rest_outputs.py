"""Outputs of TF Serving's REST `:predict`: rows (`predictions`) or columns (`outputs`).

An output that is alone has no name in the JSON; it goes by the name of its format's key here. JSON has no types: see
`output_arrays.from_numbers`. Numbers are written by their shortest text that reads back as the same double.
"""

from typing import Any

import numpy as np

from ext_proc.wire.output_arrays import (
    Array,
    OutputError,
    Outputs,
    check_names,
    from_numbers,
    read_object,
    write_object,
)

ROWS, COLUMNS = "predictions", "outputs"


def decode(body: bytes) -> dict[str, Array]:
    """Name to array, of all outputs. Raises OutputError.

    Of `predictions` an array is (rows, *shape of one row's value), of `outputs` it has the shape of the nested lists.
    """
    key, value = _outputs(read_object(body))
    return {name: from_numbers(name, values) for name, values in _by_name(key, value).items()}


def encode(body: bytes, outputs: Outputs) -> bytes:
    """The reply with these outputs replaced, in the format that it had."""
    reply = read_object(body)
    key, value = _outputs(reply)
    columns = _by_name(key, value)
    check_names(outputs, list(columns))
    columns |= {name: array.tolist() for name, array in outputs.items()}
    if list(columns) == [key] and not _named(key, value):
        reply[key] = columns[key]
    elif key == COLUMNS:
        reply[key] = columns
    else:
        if len({np.shape(array)[:1] for array in outputs.values()} | {(len(value),)}) > 1:
            raise OutputError("The outputs of rows do not all have the batch size of the reply.")
        reply[key] = [{name: column[at] for name, column in columns.items()} for at in range(len(value))]
    return write_object(reply)


def _outputs(reply: dict[str, Any]) -> tuple[str, Any]:
    for key in (ROWS, COLUMNS):
        if key in reply:
            return key, reply[key]
    raise OutputError("The reply has neither 'predictions' nor 'outputs'.")


def _named(key: str, value: Any) -> bool:
    if key == COLUMNS:
        return isinstance(value, dict)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _by_name(key: str, value: Any) -> dict[str, Any]:
    if not _named(key, value):
        return {key: value}
    if key == COLUMNS:
        return dict(value)
    names = list(value[0])
    if any(not isinstance(row, dict) or list(row) != names for row in value):
        raise OutputError("The rows of 'predictions' do not all have the same outputs.")
    return {name: [row[name] for row in value] for name in names}
