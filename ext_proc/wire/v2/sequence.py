"""The sequence that an inference request belongs to: parameters of V2 requests that Triton's sequence extension knows.

Source: Triton's protocol/extension_sequence.md, its http_server.cc and infer_handler.cc: `sequence_id` is an integer
of 64 bits or text, `sequence_start` and `sequence_end` are booleans; an id of 0 or without a character is none. What is
not of its kind is no sequence here: the model server refuses it, in its own words.
"""

import json
from dataclasses import dataclass
from typing import Any

from ext_proc.errors import CallError, Reason
from ext_proc.wire.protobuf.fields import LEN, VARINT, malformed, walk
from ext_proc.wire.v2.json_member import first_member

MAX_PARAMETERS = 1 << 20
"""Bytes of all parameters of one request."""
_MAX_ID = (1 << 64) - 1

# ModelInferRequest, its map entries, and InferParameter.
_PARAMETERS = 4
_KEY, _VALUE = 1, 2
_BOOL, _INT64, _STRING, _UINT64 = 1, 2, 3, 5


@dataclass(frozen=True, slots=True)
class SequencePart:
    """One request of a sequence. 7 and "7" are two ids; `start` and `end` say that it is the first, or the last."""

    id: int | str
    start: bool = False
    end: bool = False


def of_message(message: bytes) -> SequencePart | None:
    """That of a ModelInferRequest; tensors are passed over. Raises CallError(INVALID)."""
    found: dict[str, int | str] = {}
    flags: dict[str, bool] = {}
    size = 0
    for field in walk(message):
        if field.number != _PARAMETERS or field.wire != LEN:
            continue
        size += field.end - field.body
        if size > MAX_PARAMETERS:
            raise malformed(f"parameters of more than {MAX_PARAMETERS} bytes", field.start)
        name, value = _entry(message[field.body : field.end])
        # The last entry of a name counts, as in every map of protobuf.
        if isinstance(value, bool):
            flags[name] = value
            found.pop(name, None)
        elif value is not None:
            found[name] = value
            flags.pop(name, None)
    return _part(found.get("sequence_id"), flags.get("sequence_start"), flags.get("sequence_end"))


def of_object(text: bytes) -> SequencePart | None:
    """That of the JSON object of a REST request; tensors are passed over. Raises CallError(INVALID)."""
    member = first_member(text, "parameters")
    if member is None:
        return None
    if len(member) > MAX_PARAMETERS:
        raise CallError(Reason.INVALID, f"The request has parameters of more than {MAX_PARAMETERS} bytes.")
    try:
        parameters = json.loads(member, object_pairs_hook=_first_of_each)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parameters, dict):
        return None
    get = parameters.get
    return _part(get("sequence_id"), get("sequence_start"), get("sequence_end"))


def _part(found: object, start: object, end: object) -> SequencePart | None:
    if isinstance(found, str):
        found = found.partition("\0")[0]  # Triton hands it on as C text
    elif isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _MAX_ID:
        return None
    return SequencePart(found, start is True, end is True) if found else None


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RapidJSON finds the first of two members of one name."""
    return dict(reversed(pairs))


def _entry(entry: bytes) -> tuple[str, int | str | None]:
    name, value = b"", b""
    for field in walk(entry):
        if field.wire == LEN and field.number == _KEY:
            name = entry[field.body : field.end]
        elif field.wire == LEN and field.number == _VALUE:
            value = entry[field.body : field.end]
    return name.decode("utf-8", "replace"), _choice(value)


def _choice(value: bytes) -> int | str | None:
    """The value of an InferParameter, whose fields are a oneof: the last one counts."""
    chosen: int | str | None = None
    for field in walk(value):
        if field.wire == VARINT and field.number == _BOOL:
            chosen = bool(field.value)
        elif field.wire == VARINT and field.number in (_INT64, _UINT64):
            chosen = field.value
        elif field.wire == LEN and field.number == _STRING:
            chosen = value[field.body : field.end].decode("utf-8", "replace")
        else:
            chosen = None
    return chosen
