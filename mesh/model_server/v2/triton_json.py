"""JSON as Triton reads and prints it: parsing, access to members with its texts for what is amiss, and no spaces."""

import json
from typing import Any

from mesh.model_server import rapidjson
from mesh.model_server.errors import ServingError, StatusCode

#: Triton's RapidJSON is newer than TF Serving's, and quotes the characters that it misses.
_NEWER_TEXTS = {
    "Missing a comma or } after an object member.": "Missing a comma or '}' after an object member.",
    "Missing a comma or ] after an array element.": "Missing a comma or ']' after an array element.",
}


def broken(message: str) -> ServingError:
    """What Triton answers to JSON that is not what it should be: an internal error."""
    return ServingError(StatusCode.INTERNAL, message)


def parse(body: bytes) -> Any:
    """The JSON value in a body. Raises ServingError."""
    try:
        return rapidjson.parse(body)
    except rapidjson.JsonError as error:
        words = _NEWER_TEXTS.get(error.text, error.text)
        raise broken(f"failed to parse the request JSON buffer: {words} at {error.offset}") from error


def member(value: Any, name: str) -> Any:
    """A member of an object. Raises ServingError."""
    if not isinstance(value, dict) or name not in value:
        raise broken(f"Unable to parse '{name}': attempt to access non-existing object member '{name}'")
    return value[name]


def array(value: Any, name: str) -> list[Any]:
    """The value, which must be an array. Raises ServingError."""
    if not isinstance(value, list):
        raise broken(f"Unable to parse '{name}': attempt to access JSON non-array as array")
    return value


def text(value: Any, name: str) -> str:
    """The value, which must be a string. Raises ServingError."""
    if not isinstance(value, str):
        raise broken(f"Unable to parse '{name}': attempt to access JSON non-string as string")
    return value


def boolean(value: Any, name: str, verb: str = "parse") -> bool:
    """The value, which must be true or false. Raises ServingError."""
    if not isinstance(value, bool):
        raise broken(f"Unable to {verb} '{name}': attempt to access JSON non-boolean as boolean")
    return value


def is_unsigned(value: Any) -> bool:
    """Whether a value is what RapidJSON keeps as an unsigned integer; a larger one is a double to it."""
    return type(value) is int and 0 <= value < 2**64


def unsigned(value: Any, name: str, verb: str = "parse") -> int:
    """The value, which must be an unsigned integer of at most 64 bits. Raises ServingError."""
    if not is_unsigned(value):
        raise broken(f"Unable to {verb} '{name}': attempt to access JSON non-unsigned-integer as unsigned-integer")
    result: int = value
    return result


def parameters(each: dict[str, Any]) -> dict[str, Any]:
    """An object's "parameters"; empty if it has none, or they are no object."""
    found = each.get("parameters")
    return found if isinstance(found, dict) else {}


def compact(value: Any) -> bytes:
    """JSON without spaces, as Triton prints it."""
    return rapidjson.encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
