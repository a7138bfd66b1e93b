"""One member of a JSON object, cut out of its text: what stands beside it is passed over and never built.

A request of many MiB of numbers would else become as many Python objects for the sake of one member. Nothing is checked
but what has to be passed over: whether the text is JSON is for its reader to say.
"""

import json
import re

# Possessive quantifiers: linear in the text, whatever it is.
_STRING_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_STRING_TEXT, re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]++")
_PLAIN = rb'[^"\[\]{}]++|' + _STRING_TEXT
_NESTED = 8  # levels that are passed over in one go: tensors have few dimensions


def _levels(depth: int) -> bytes:
    """Within lists and objects: what opens and closes nothing, and whole lists and objects."""
    inner = _PLAIN if depth == 0 else _levels(depth - 1)
    return _PLAIN + rb"|[\[{](?:" + inner + rb")*+[\]}]"


_RUN = re.compile(rb"(?:" + _levels(_NESTED - 1) + rb")*+", re.DOTALL)
_MAX_DEPTH = 100
_PIECE = 1 << 16  # bytes of one run: the interpreter is not free for others during one


def first_member(text: bytes, name: str) -> bytes | None:
    """The text of the value of the first member of that name; None where there is none, or the text is no object."""
    at = _blank(text, 0)
    if text[at : at + 1] != b"{":
        return None
    at = _blank(text, at + 1)
    while key := _STRING.match(text, at):
        at = _blank(text, key.end())
        if text[at : at + 1] != b":":
            return None
        start = _blank(text, at + 1)
        end = _past(text, start)
        if end is None:
            return None
        if _read(key[0]) == name:
            return text[start:end]
        at = _blank(text, end)
        if text[at : at + 1] != b",":
            return None
        at = _blank(text, at + 1)
    return None


def _blank(text: bytes, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None, "it matches nothing, too"
    return match.end()


def _read(key: bytes) -> str | None:
    try:
        read: str = json.loads(key)
    except ValueError:
        return None
    return read


def _past(text: bytes, at: int) -> int | None:
    """Where the value ends that starts there; None if it does not."""
    if text[at : at + 1] not in (b"{", b"["):
        scalar = _STRING.match(text, at) or _SCALAR.match(text, at)
        return None if scalar is None else scalar.end()
    depth = 1
    at += 1
    while at < len(text):
        run = _RUN.match(text, at, min(at + _PIECE, len(text)))
        assert run is not None, "it matches nothing, too"
        at = run.end()
        mark = text[at : at + 1]
        if mark in (b"{", b"["):
            depth += 1
            if depth > _MAX_DEPTH:
                return None
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return at + 1
        elif mark == b'"':  # longer than a piece, or cut by its end
            string = _STRING.match(text, at)
            if string is None:
                return None
            at = string.end()
            continue
        elif not run[0]:
            return None
        else:
            continue
        at += 1
    return None
