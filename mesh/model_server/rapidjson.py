"""JSON as RapidJSON reads and prints it: both TF Serving and Triton use that library, and its texts reach clients.

Texts and offsets of errors are RapidJSON's for the common mistakes, and near them for the rare ones. Like RapidJSON by
default, bytes that are not UTF-8 are carried through strings unchanged (as surrogate escapes in between).
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

#: The start of Python's text, and RapidJSON's for the same mistake.
_TEXTS = (
    ("Expecting property name", "Missing a name for object member."),
    ("Illegal trailing comma before end of object", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Invalid control character", "Invalid escape character in string."),
    ("Invalid \\u", "Incorrect hex digit after \\u escape in string."),
    ("Invalid \\escape", "Invalid escape character in string."),
)
_LITERALS = ("true", "false", "null", "-")
_INDENT = "    "
_BLANK = re.compile(r"[ \t\n\r]*")


class JsonError(Exception):
    """The text is not JSON; `offset` is where, in bytes."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(f"{text} at {offset}")
        self.text = text
        self.offset = offset


class _TooBig(Exception):
    pass


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _TooBig(digits)
    return number


_DECODER = json.JSONDecoder(parse_float=_finite)


def parse(data: bytes, *, stop_when_done: bool = False) -> Any:
    """The JSON value in `data`. A NUL byte ends the text; so does the end of the value with `stop_when_done`.

    Raises JsonError.
    """
    text = data.decode("utf-8", "surrogateescape").partition("\0")[0]

    def error_at(message: str, position: int) -> JsonError:
        return JsonError(message, len(text[:position].encode("utf-8", "surrogateescape")))

    start = _blank(text, 0)
    if start == len(text):
        raise error_at("The document is empty.", start)
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise error_at(*_explain(error)) from None
    except RecursionError:
        raise JsonError("The document is nested too deeply.", 0) from None
    except _TooBig as error:
        raise error_at("Number too big to be stored in double.", text.find(str(error))) from None
    except ValueError:  # an integer of thousands of digits
        raise JsonError("Number too big to be stored in double.", 0) from None
    end = _blank(text, end)
    if end < len(text) and not stop_when_done:
        raise error_at("The document root must not be followed by other values.", end)
    return value


def _blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    assert match is not None
    return match.end()


def encode(text: str) -> bytes:
    """The bytes of a string that `parse` gave, or of a text made with it."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, from an escape
        return text.encode("utf-8", "replace")


def _explain(error: json.JSONDecodeError) -> tuple[str, int]:
    text, position = error.doc, error.pos
    if error.msg.startswith("Expecting ',' delimiter"):
        if text[position : position + 1] in (".", "e", "E") and text[position - 1].isdigit():
            part = "fraction part" if text[position] == "." else "exponent"
            return f"Miss {part} in number.", position + 1
        if _container(text[:position]) == "[":
            return "Missing a comma or ] after an array element.", position
        return "Missing a comma or } after an object member.", position
    for start, message in _TEXTS:
        if error.msg.startswith(start):
            if start == "Unterminated string":  # Python tells where it starts
                return message, len(text)
            return message, position - (start == "Invalid \\u")
    return "Invalid value.", position + max(_common(text, position, literal) for literal in _LITERALS)


def _common(text: str, position: int, literal: str) -> int:
    """How many characters of a literal stand at a position."""
    for count in range(len(literal), 0, -1):
        if text.startswith(literal[:count], position):
            return count
    return 0


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
