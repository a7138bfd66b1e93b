"""The header `tbms-session` (RFC 9651): a token, a string or an integer, with the parameter `end` on the last call."""

import http_sfv

from ext_proc.broker import fields
from ext_proc.contract import SESSION_HEADER
from ext_proc.errors import CallError, Reason
from mesh.bounded import ByteMemo

MAX_KEY = 256
"""Characters of a session's name in the header."""


def read_session(text: str) -> tuple[str, bool]:
    """The name, and whether this is the last call. Raises CallError(INVALID)."""
    return _NAMES[text]


def _name(text: str) -> tuple[str, bool]:
    try:
        item = fields.parse(http_sfv.Item(), text)
        value, ends = item.value, item.params.get("end", False)
        fields.known(item.params, {"end"}, "value")
        if isinstance(value, bool) or not isinstance(value, str | int) or not 1 <= len(str(value)) <= MAX_KEY:
            raise fields.FieldError(f"value is a token, a string or an integer of 1 to {MAX_KEY} characters")
        if not isinstance(ends, bool):
            raise fields.FieldError("value: end is a boolean")
        return str(value), ends
    except fields.FieldError as error:
        raise CallError(Reason.INVALID, f'Header {SESSION_HEADER}: {error}. Quote it: "chat 9".') from error


_NAMES = ByteMemo(_name)
