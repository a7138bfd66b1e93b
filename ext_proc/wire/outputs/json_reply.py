"""A reply that is a JSON object."""

import json
from typing import Any

from ext_proc.wire.tensor import TensorError


def read_object(text: bytes) -> dict[str, Any]:
    """The object. NaN and Infinity are numbers, as both servers write them. Raises TensorError."""
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        raise TensorError("The reply is not valid JSON.") from None
    if not isinstance(reply, dict):
        raise TensorError("The reply is not a JSON object.")
    return reply
