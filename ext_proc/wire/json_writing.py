"""JSON as text, by parts: a thread that writes many numbers lets others work in between."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_PART = 1 << 14  # values that are written at a time: some milliseconds, in which the interpreter is held
_DEPTH = 8  # levels that are looked at to tell how many values there are


def write(value: Mapping[str, Any], separators: tuple[str, str] | None = None) -> bytes:
    """The text of an object that was read from JSON, as `json.dumps` writes it but in UTF-8.

    Raises UnicodeEncodeError for half a surrogate pair, RecursionError where it is nested too deeply.
    """
    between, colon = separators or (", ", ": ")
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(between, colon))

    def pieces(value: Any) -> Iterator[str]:
        if _count(value) <= _PART:
            yield encoder.encode(value)
        elif isinstance(value, dict):
            yield "{"
            for number, (key, member) in enumerate(value.items()):
                yield f"{between if number else ''}{encoder.encode(key)}{colon}"
                yield from pieces(member)
            yield "}"
        else:
            step = max(1, _PART // max(1, _count(value[0])))
            yield "["
            for start in range(0, len(value), step):
                yield between if start else ""
                if step == 1:
                    yield from pieces(value[start])
                else:
                    yield encoder.encode(value[start : start + step])[1:-1]
            yield "]"

    return "".join(pieces(value)).encode()


def _count(value: Any, depth: int = 0) -> int:
    """About how many values there are: what a list holds is taken to be as large as its first."""
    if depth == _DEPTH:
        return 1
    if isinstance(value, list):
        return len(value) * _count(value[0], depth + 1) if value else 1
    if isinstance(value, dict):
        return sum(_count(member, depth + 1) for member in value.values())
    return 1
