"""JSON whose values are carried as they are written: a reader that tells where they lie, and texts with gaps.

Python's own scanner checks and measures the values, so that numbers keep their digits and nothing that is no JSON can
be carried from one call into another.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ext_proc.wire.layouts import Misfit

MAX_DEPTH: Final = 32
"""Of nested lists: the most dimensions that an array has."""
_BLANK: Final = " \t\n\r"
_decode = json.JSONDecoder().raw_decode


class NotJson(ValueError):
    """A text that is no JSON, or has a name twice in one object."""


class Reader:
    """Steps through a text. `at` is the place of the next value, and the caller's to move: by reading, or by hand."""

    __slots__ = ("at", "text")

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at

    def value(self) -> Any:
        """Reads the next value, whatever it is. Raises NotJson."""
        try:
            value, self.at = _decode(self.text, self.at)
        except (ValueError, RecursionError):
            raise NotJson(f"There is no JSON value at {self.at}.") from None
        return value

    def members(self) -> Iterator[str]:
        """The names in the next object; at each the caller reads the value."""
        names: set[str] = set()
        self._open("{")
        while not self._closed("}", bool(names)):
            start, name = self.at, self.value()
            if not isinstance(name, str) or name in names:
                raise NotJson(f"There is no name at {start}, or one for the second time.")
            names.add(name)
            self._open(":")
            yield name

    def items(self) -> Iterator[int]:
        """The numbers of the items in the next array; at each the caller reads the value."""
        self._open("[")
        number = 0
        while not self._closed("]", number > 0):
            yield number
            number += 1

    def inside(self, start: int) -> tuple[int, int]:
        """Where the items lie of the array that begins at `start` and has just been read, without blanks."""
        return _inside(self.text, start, self.at)

    def end(self) -> None:
        """The text is over but for blanks. Raises NotJson."""
        self.blanks()
        if self.at != len(self.text):
            raise NotJson(f"There is more at {self.at}.")

    def blanks(self) -> None:
        """Steps over blanks."""
        text, at, size = self.text, self.at, len(self.text)
        while at < size and text[at] in _BLANK:
            at += 1
        self.at = at

    def comma(self) -> None:
        """Steps over the comma between two items. Raises Misfit."""
        self.blanks()
        if not self.text.startswith(",", self.at):
            raise Misfit("fewer items than there should be")
        self.at += 1
        self.blanks()

    def _open(self, mark: str) -> None:
        self.blanks()
        if not self.text.startswith(mark, self.at):
            raise NotJson(f"There is no '{mark}' at {self.at}.")
        self.at += 1
        self.blanks()

    def _closed(self, mark: str, more: bool) -> bool:
        self.blanks()
        if self.text.startswith(mark, self.at):
            self.at += 1
            return True
        if more:
            self._open(",")
        return False


def shape_of(value: Any) -> tuple[tuple[int, ...], set[type]]:
    """The shape of nested lists, and the types of what is in them; `{"b64": text}` is `bytes`. Raises Misfit.

    Like an array's, all lists of one depth have one length. An empty list ends the shape.
    """
    return _shape(value, 0)


def _shape(value: Any, depth: int) -> tuple[tuple[int, ...], set[type]]:
    if not isinstance(value, list):
        return (), _leaf(value)
    if depth == MAX_DEPTH:
        raise Misfit("lists that are nested too deep")
    kinds = set(map(type, value))
    if list not in kinds:
        if dict in kinds:
            for item in value:
                kinds |= _leaf(item)
            kinds.discard(dict)
        return (len(value),), kinds
    if len(kinds) > 1:
        raise Misfit("lists beside values")
    shape, kinds = _shape(value[0], depth + 1)
    for item in value[1:]:
        other, more = _shape(item, depth + 1)
        if other != shape:
            raise Misfit("lists of unequal lengths")
        kinds |= more
    return (len(value), *shape), kinds


def _leaf(value: Any) -> set[type]:
    if not isinstance(value, dict):
        return {type(value)}
    if len(value) != 1 or not isinstance(value.get("b64"), str):
        raise Misfit("an object that is no value")
    return {bytes}


def lists_in(shape: Sequence[int]) -> int:
    """How many lists a value of this shape is made of."""
    lists, count = 0, 1
    for size in shape:
        lists += count
        count *= size
    return lists


@dataclass(frozen=True, slots=True)
class Items:
    """A `Layout`: the items of an array, without its brackets and the blanks next to them; a row has `per_row`.

    Each item is made of so many `lists`. `separator` stands between the items of two pieces that are put together.
    """

    per_row: int = 1
    lists: int = 0
    separator: str = ","

    def cut(self, data: str, rows: Sequence[int]) -> list[str]:
        """See `Layout`. The data are known to be JSON, and to be of this layout."""
        if len(rows) == 1:
            return [data]
        counts = [count * self.per_row for count in rows]
        if not self.per_row:
            return [""] * len(rows)
        if '"' in data or "{" in data:
            return _cut_stepwise(data, counts)
        # Nothing but numbers, literals and lists: an item ends with its last list, or before a comma.
        mark, marks = ("]", self.lists) if self.lists else (",", 1)
        parts = data.split(mark)
        pieces, start = [], 0
        for count in counts:
            end = start + count * marks
            piece = mark.join(parts[start:end])
            pieces.append(piece.lstrip("," + _BLANK) + mark if self.lists else piece.strip(_BLANK))
            start = end
        if start != len(parts) - (1 if self.lists else 0):
            raise Misfit(f"{len(parts)} parts, where there should be {start}")
        return pieces

    def join(self, pieces: Sequence[str]) -> Sequence[str]:
        """See `Layout`."""
        return [self.separator.join([piece for piece in pieces if piece])]


def _cut_stepwise(data: str, counts: Sequence[int]) -> list[str]:
    """Items of any kind."""
    reader, pieces = Reader(data), []
    for count in counts:
        start = reader.at
        for number in range(count):
            if number:
                reader.comma()
            reader.value()
        pieces.append(data[start : reader.at])
        if reader.at < len(data):
            reader.comma()
    reader.end()
    return pieces


@dataclass(slots=True, init=False)
class Value:
    """A value that was taken out of a text; of an array `text` is what lies within its brackets, without blanks."""

    value: Final[Any]
    text: Final[str]

    def __init__(self, value: Any, text: str) -> None:
        self.value = value
        self.text = text


def _inside(text: str, start: int, end: int) -> tuple[int, int]:
    """Where in the array `text[start:end]` its items lie: within its brackets, and the blanks next to them."""
    start, end = start + 1, end - 1
    while start < end and text[start] in _BLANK:
        start += 1
    while end > start and text[end - 1] in _BLANK:
        end -= 1
    return start, end


def taker(strings: str, arrays: str) -> re.Pattern[str]:
    """Finds members of these names, where they are a string or an array, in any object of a JSON text.

    A quotation mark that is not escaped begins a string or ends one, and after the end of one no name can follow. So
    in a text that is JSON, nothing else is found.
    """
    blank = f"[{_BLANK}]*"
    # What may not stand before the mark is looked for behind it: so the search goes from mark to mark.
    return re.compile(rf'"(?<!\\")(?:{strings}"{blank}:{blank}(?=")|{arrays}"{blank}:{blank}(\[))')


def take_out(text: str, wanted: re.Pattern[str]) -> tuple[tuple[str, ...], list[Value]]:
    """The values that a `taker` finds, and the texts between them, of which there is one more. Raises NotJson."""
    texts, values, kept, at = [], [], 0, 0
    while found := wanted.search(text, at):
        start = found.end() if found[1] is None else found.start(1)
        try:
            value, at = _decode(text, start)
        except (ValueError, RecursionError):
            raise NotJson(f"There is no JSON value at {start}.") from None
        start, end = (start, at) if found[1] is None else _inside(text, start, at)
        texts.append(text[kept:start])
        values.append(Value(value, text[start:end]))
        kept = end
    return (*texts, text[kept:]), values


class Skeleton:
    """A text with numbers in place of the values that were taken out, for a `Reader`: an array has its number in it.

    Raises NotJson for a text that may hide further members of their names, by escapes.
    """

    __slots__ = ("spans", "text")

    def __init__(self, texts: Sequence[str]) -> None:
        self.spans: list[tuple[int, int]] = []
        parts: list[str] = []
        at = 0
        for number, text in enumerate(texts[:-1]):
            mark = str(number) if text.rstrip(_BLANK).endswith("[") else f'"{number}"'
            parts += (text, mark)
            at += len(text)
            self.spans.append((at, at + len(mark)))
            at += len(mark)
        self.text = "".join((*parts, texts[-1]))
        if "\\u" in self.text:
            raise NotJson("There are names that are escaped.")


class Gap(NamedTuple):
    """A place in a text that is filled anew in each message: by `what`, for the tensor of this number."""

    what: str
    tensor: int = 0


ID: Final = "id"
ROWS: Final = "rows"
SIZE: Final = "size"
DATA: Final = "data"
"""What fills a gap: the message's id, its number of rows, the bytes of a tensor's binary data, and a tensor's items."""


class Template(NamedTuple):
    """A text with gaps: `texts` is one longer than `gaps`."""

    texts: tuple[str, ...]
    gaps: tuple[Gap, ...]

    def filled(self, values: Sequence[str]) -> str:
        """The text with these values in its gaps, one after the other."""
        out = [self.texts[0]]
        for value, text in zip(values, self.texts[1:], strict=True):
            out += (value, text)
        return "".join(out)


def cut_out(text: str, gaps: Sequence[tuple[int, int, Gap]]) -> Template:
    """The text with gaps in place of what lies in `text[start:end]`; they are in no order."""
    texts, found, kept = [], [], 0
    for start, end, gap in sorted(gaps):
        texts.append(text[kept:start])
        found.append(gap)
        kept = end
    return Template((*texts, text[kept:]), tuple(found))


def put_together(parts: Sequence[str | Gap]) -> Template:
    """The template that these are one after the other."""
    texts: list[str] = []
    gaps: list[Gap] = []
    text: list[str] = []
    for part in parts:
        if isinstance(part, Gap):
            gaps.append(part)
            texts.append("".join(text))
            text.clear()
        else:
            text.append(part)
    return Template((*texts, "".join(text)), tuple(gaps))


def read_text(body: bytes) -> str:
    """A reply's text. RapidJSON carries bytes that are no UTF-8 through strings, and so does this."""
    return body.decode("utf-8", "surrogateescape")


def write_text(text: str) -> bytes:
    """The bytes of a text, those of `read_text` too."""
    return text.encode("utf-8", "surrogateescape")


compact = json.JSONEncoder(separators=(",", ":")).encode
"""A value as JSON without blanks, in ASCII."""
unescaped = json.JSONEncoder(ensure_ascii=False).encode
"""A string as servers write it: nothing is escaped that need not be."""
