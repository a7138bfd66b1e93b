"""What a model's name, a version and a label may be: the one place where they are checked.

Names become folder names of a repository and parts of paths, so whatever could leave its folder or
break a line is refused: slashes of both kinds, `.` and `..`, control characters, text that is not UTF-8.
"""

import re

from ext_proc.errors import CallError, Reason

MAX_NAME = 255  # bytes of UTF-8; what a file system takes as the name of a folder
MAX_VERSION = (1 << 63) - 1

_ASCII_NAME = re.compile(r"[ -.0-\[\]-~]+")  # printable ASCII but for / and \
_OUTLAW = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]{1,19}")


def check_name(name: str, part: str = "model name", limit: int = MAX_NAME) -> str:
    """The name, if it may be one; raises CallError(INVALID) that calls it by `part`. `limit` is in bytes."""
    if len(name) <= limit and _ASCII_NAME.fullmatch(name) and name != "." and name != "..":
        return name
    if not name:
        raise CallError(Reason.INVALID, f"The {part} is empty.")
    outlaw = _OUTLAW.search(name)
    if outlaw:
        raise CallError(Reason.INVALID, f"The {part} {quoted(name)} holds {_kind(outlaw[0])}.")
    if name in (".", ".."):
        raise CallError(Reason.INVALID, f"The {part} {quoted(name)} is a step in a path, not a name.")
    size = len(name.encode())
    if size > limit:
        raise CallError(Reason.INVALID, f"The {part} {quoted(name)} is {size} bytes long, over the limit of {limit}.")
    return name


def check_label(label: str) -> str:
    """A version label: the same rule as for names."""
    return check_name(label, "version label")


def check_version(version: str) -> str:
    """The version as it was written, if it is a decimal int64 that is not negative."""
    if _DIGITS.fullmatch(version) and int(version) <= MAX_VERSION:
        return version
    raise CallError(Reason.INVALID, f"The model version {quoted(version)} is not a decimal number of 64 bits.")


def decode(raw: bytes, part: str = "model name") -> str:
    """Text of a protobuf string field. Raises CallError(INVALID) if it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CallError(Reason.INVALID, f"The {part} {quoted(raw[:80])} is not UTF-8.") from None


def quoted(text: str | bytes, limit: int = 60) -> str:
    """The text as it may stand in an error: one line, printable ASCII, cut at `limit` characters."""
    shown = ascii(text[:limit])
    return f"{shown}..." if len(text) > limit else shown


def _kind(character: str) -> str:
    if character in "/\\":
        return f"a '{character}'"
    return "text that is not UTF-8" if "\ud800" <= character <= "\udfff" else "a control character"
