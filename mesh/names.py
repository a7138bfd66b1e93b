"""What a model, a version label and a version may be called: the one rule of every room that takes such a name in.

A name, of a model or of a label, is 1 to 255 bytes of UTF-8 that hold no `/`, no `\\` and no control character or line
separator, and is neither `.` nor `..`. Why:

- A model is the folder `<repository>/<model>/` for TF Serving, for Triton and on a node's own disk. File systems take
  255 bytes for the name of a folder; slashes, `.` and `..` would lead out of the repository.
- TF Serving (model_config_list) and Triton (names of folders) take any such text as a name: spaces, `:`, `%`, every
  script. So is it here; what a path, a header or a metric cannot hold as it is, is escaped where it is written.
- Control characters and line separators would break a line of the log, a header, or a line of the residency stream.
- Text that is not UTF-8 is no protobuf string and no JSON. Python reads such bytes as surrogates.

A version is a decimal int64 that is not negative: TF Serving's `Int64Value`, and the folder below the model's. Leading
zeros are allowed: both servers read the number.
"""

import re

from mesh.digits import number

MAX_NAME = 255
"""Bytes of UTF-8."""
MAX_VERSION = (1 << 63) - 1

_PLAIN = re.compile(r"[ -.0-\[\]-~]+")  # printable ASCII but for / and \: nearly every name, seen at once
_OUTLAW = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def name_fault(name: str) -> str | None:
    """Why this cannot be the name of a model or of a label, as in "holds a '/'"; None where it can."""
    if len(name) <= MAX_NAME and _PLAIN.fullmatch(name) and name not in (".", ".."):
        return None
    if not name:
        return "is empty"
    outlaw = _OUTLAW.search(name)
    if outlaw:
        return f"holds {_kind(outlaw[0])}"
    if name in (".", ".."):
        return "is a step in a path, not a name"
    size = len(name.encode())
    return f"is {size} bytes long, over the limit of {MAX_NAME}" if size > MAX_NAME else None


def version_fault(version: str) -> str | None:
    """Why this cannot be a version, in the same way."""
    value = number(version, 19)
    return None if value is not None and value <= MAX_VERSION else "is not a decimal number of 64 bits"


def fault_sentence(part: str, text: str, fault: str) -> str:
    """The fault as the sentence of an error: "The model name 'a/b' holds a '/'." It is one line of printable ASCII."""
    return f"The {part} {quoted(text)} {fault}." if text else f"The {part} {fault}."


def quoted(text: str | bytes, limit: int = 60) -> str:
    """The text as it may stand in an error: one line, printable ASCII, cut at `limit` characters."""
    shown = ascii(text[:limit])
    return f"{shown}..." if len(text) > limit else shown


def _kind(character: str) -> str:
    if character in "/\\":
        return f"a '{character}'"
    if "\ud800" <= character <= "\udfff":
        return "text that is not UTF-8"
    return "a control character, which cannot be printed"
