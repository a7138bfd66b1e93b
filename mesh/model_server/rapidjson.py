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
_LITERALS = ("true", "false", "null", "-", "NaN", "Inf", "Infinity", "-Inf", "-Infinity", "-NaN")
_MARK = "\ufeff"  # .NET and PowerShell write it before UTF-8; RapidJSON passes over it at the start of a text
_INDENT = "    "
_BLANK = re.compile(r"[ \t\n\r]*")
#: Strings whole (one that never ends, too: the time must grow with the text only), so that nothing is found inside of
#: them; and the literals that RapidJSON knows and Python does not.
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|-NaN|-?Inf(?!i)', re.DOTALL)
_PYTHONS = {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}
_WITHOUT_EXPONENT = re.compile(r"[0-9]+(\.[0-9]+)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


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


class Repeating(dict[str, Any]):
    """An object that has a name twice. As RapidJSON does, a look-up finds the first; `members` has all of them."""

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(members)
        self.update(reversed(members))
        self.members = members


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    return value if len(value) == len(members) else Repeating(members)


def members(value: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every member of an object that `parse` gave, in the order of the text."""
    return value.members if isinstance(value, Repeating) else list(value.items())


_DECODER = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_object)


def parse(data: bytes, *, stop_when_done: bool = False) -> Any:
    """The JSON value in `data`. A NUL byte ends the text; so does the end of the value with `stop_when_done`.

    Raises JsonError.
    """
    given = data.decode("utf-8", "surrogateescape").partition("\0")[0]
    text, longer = _in_pythons_words(given)

    def error_at(message: str, position: int) -> JsonError:
        position -= sum(by for end, by in longer if end <= position)
        return JsonError(message, len(given[:position].encode("utf-8", "surrogateescape")))

    start = _blank(text, text.startswith(_MARK))
    if start == len(text):
        raise error_at("The document is empty.", start)
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        message, position = _explain(error)
        raise error_at(*(_half_a_pair(text, position) or (message, position))) from None
    except RecursionError:
        raise JsonError("The document is nested too deeply.", 0) from None
    except _TooBig as error:
        raise error_at("Number too big to be stored in double.", text.find(str(error))) from None
    except ValueError:  # an integer of thousands of digits
        raise JsonError("Number too big to be stored in double.", 0) from None
    half = _half_a_pair(text, end)
    if half is not None:
        raise error_at(*half)
    if (cut_off := _cut_off(text, end)) is not None:
        raise error_at(*cut_off)
    end = _blank(text, end)
    if end < len(text) and not stop_when_done:
        raise error_at("The document root must not be followed by other values.", end)
    return value


def _in_pythons_words(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text with literals that Python's decoder knows, and by how much each is longer, with where it ends."""
    if "Inf" not in text and "-NaN" not in text:
        return text, []
    longer: list[tuple[int, int]] = []
    parts: list[str] = []
    done = grown = 0
    for match in _LITERAL.finditer(text):
        word = _PYTHONS.get(match[0])
        if word is not None:
            parts += (text[done : match.start()], word)
            done, by = match.end(), len(word) - len(match[0])
            grown += by
            longer.append((done + grown, by))
    return "".join((*parts, text[done:])), longer


def _half_a_pair(text: str, end: int) -> tuple[str, int] | None:
    """The first escape before `end` that is half of a surrogate pair, as an error and its position."""
    if _SURROGATE.search(text, 0, end) is None:
        return None
    high = -1
    for match in _ESCAPE.finditer(text, 0, end):
        code = int(match[1], 16) if match[1] else 0
        if high >= 0:
            if match.start() == high + 6 and 0xDC00 <= code < 0xE000:
                high = -1
                continue
            break
        if 0xD800 <= code < 0xDC00:
            high = match.start()
        elif 0xDC00 <= code < 0xE000:
            high = match.start()
            break
    return None if high < 0 else ("The surrogate pair in string is invalid.", high)


def _blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    assert match is not None
    return match.end()


def encode(text: str) -> bytes:
    """The bytes of a string that `parse` gave, or of a text made with it."""
    return text.encode("utf-8", "surrogateescape")


def _explain(error: json.JSONDecodeError) -> tuple[str, int]:
    text, position = error.doc, error.pos
    if error.msg.startswith("Expecting ',' delimiter"):
        if (cut_off := _cut_off(text, position)) is not None:
            return cut_off
        if _container(text[:position]) == "[":
            return "Missing a comma or ] after an array element.", position
        return "Missing a comma or } after an object member.", position
    for start, message in _TEXTS:
        if error.msg.startswith(start):
            if start == "Unterminated string":  # Python tells where it starts
                return message, len(text)
            return message, position - (start == "Invalid \\u")
    return "Invalid value.", position + max(_common(text, position, literal) for literal in _LITERALS)


def _cut_off(text: str, position: int) -> tuple[str, int] | None:
    """A number that ends in the middle at `position`, as an error and its position."""
    mark = text[position : position + 1]
    if mark not in (".", "e", "E"):
        return None
    start = position
    while start and text[start - 1] in "0123456789.eE":
        start -= 1
    number = text[start:position]
    if mark == "." and number.isdigit():
        return "Miss fraction part in number.", position + 1
    if mark != "." and _WITHOUT_EXPONENT.fullmatch(number):
        return "Miss exponent in number.", position + 1 + (text[position + 1 : position + 2] in ("+", "-"))
    return None


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


def pretty_start(value: Any, size: int) -> str:
    """The start of a value as `pretty` prints it with arrays on single lines: `size` characters, or a little more.

    What comes after them is not printed: an error shows little of what may be many MiB.
    """
    pieces: list[str] = []
    for piece in _pretty(value, 0, single=True):
        pieces.append(piece)
        size -= len(piece)
        if size <= 0:
            break
    return "".join(pieces)


def _pretty(value: Any, level: int, single: bool) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for position, (key, member) in enumerate(members(value)):
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
