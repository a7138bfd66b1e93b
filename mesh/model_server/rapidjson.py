"""JSON as RapidJSON reads and prints it: both TF Serving and Triton use that library, and its texts reach clients.

Parsing stops after the first value, as both servers ask for: what follows is ignored. Offsets and texts of errors are
RapidJSON's for the common mistakes, and near them for the rare ones.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

#: The start of Python's text, and RapidJSON's for the same mistake.
_TEXTS = (
    ("Expecting property name", "Missing a name for object member."),
    ("Illegal trailing comma before end of object", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Illegal trailing comma", "Invalid value."),
    ("Expecting value", "Invalid value."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid control character", "Missing a closing quotation mark in string."),
    ("Invalid \\u", "Incorrect hex digit after \\u escape in string."),
    ("Invalid \\escape", "Invalid escape character in string."),
)
_INDENT = "    "
_DECODER = json.JSONDecoder()


class JsonError(Exception):
    """The text is not JSON; `offset` is where, in bytes."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(f"{text} at {offset}")
        self.text = text
        self.offset = offset


def parse(data: bytes) -> Any:
    """The first JSON value in `data`. Raises JsonError."""
    try:
        text = data.decode("utf-8", "surrogateescape")  # bytes that follow the value need not be text
        start = len(text) - len(text.lstrip(" \t\n\r"))
        if start == len(text):
            raise JsonError("The document is empty.", len(data))
        value, end = _DECODER.raw_decode(text, start)
        text[start:end].encode()
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode("utf-8", "surrogateescape"))
        raise JsonError(_text(error), offset) from None
    except UnicodeEncodeError as error:
        raise JsonError("Invalid encoding in string.", start + error.start) from None
    except RecursionError:
        raise JsonError("The document is nested too deeply.", 0) from None
    except ValueError:  # an integer of thousands of digits
        raise JsonError("Number too big to be stored in double.", 0) from None
    return value


def _text(error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Expecting ',' delimiter"):
        inside = _container(error.doc[: error.pos])
        if inside == "[":
            return "Missing a comma or ] after an array element."
        return "Missing a comma or } after an object member."
    for start, text in _TEXTS:
        if error.msg.startswith(start):
            return text
    return "Invalid value."


def _container(text: str) -> str:
    """The innermost bracket that is open at the end of a JSON prefix."""
    open_brackets: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == '"':
            for inner in characters:
                if inner == "\\":
                    next(characters, None)
                elif inner == '"':
                    break
        elif character in "[{":
            open_brackets.append(character)
        elif character in "]}":
            open_brackets.pop()
    return open_brackets[-1] if open_brackets else ""


def type_name(value: Any) -> str:
    """RapidJSON's name for the type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


def decimal(value: Any) -> str:
    """A float32 or float64 as TF Serving prints it: six digits if they suffice, else all; never like an integer."""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "-Infinity" if number < 0 else "Infinity"
    single = isinstance(value, np.float32)
    text = f"{number:.6g}"
    if (np.float32(text) if single else float(text)) != value:
        text = f"{number:.{9 if single else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


def pretty(value: Any, *, level: int = 0, single_line_arrays: bool = False) -> str:
    """A value as RapidJSON's PrettyWriter prints it `level` levels deep, floats as `decimal` does."""
    return "".join(_pretty(value, level, single_line_arrays))


def _pretty(value: Any, level: int, single: bool) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for position, (key, member) in enumerate(value.items()):
            yield f"{',' if position else ''}\n{_INDENT * (level + 1)}{json.dumps(key, ensure_ascii=False)}: "
            yield from _pretty(member, level + 1, single)
        yield f"\n{_INDENT * level}}}" if value else "}"
    elif isinstance(value, list):
        yield "["
        for position, element in enumerate(value):
            if position:
                yield ", " if single else ","
            if not single:
                yield f"\n{_INDENT * (level + 1)}"
            yield from _pretty(element, level + 1, single)
        yield f"\n{_INDENT * level}]" if value and not single else "]"
    elif isinstance(value, float | np.floating):
        yield decimal(value)
    else:
        yield json.dumps(value, ensure_ascii=False)
