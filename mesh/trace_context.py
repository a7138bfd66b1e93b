"""The place of a call in a trace, as its headers tell it: W3C Trace Context, https://www.w3.org/TR/trace-context/."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
MOST_STATE = 512
"""Characters of a tracestate that is handed on: so many have to be (section 3.3.1.5), and a longer one is left out."""
_MOST_MEMBERS = 32
_SAMPLED, _KNOWN_FLAGS = 0x01, 0x03  # the second one says that the trace's id is random
_LENGTH = 55
_HEX = frozenset("0123456789abcdef")
# Section 3.3.1.3, as its first edition has it, which all understand.
_OF_KEY, _OF_VALUE = r"[_0-9a-z\-*/]", r"\x21-\x2b\x2d-\x3c\x3e-\x7e"
_MEMBER = re.compile(
    rf"([a-z]{_OF_KEY}{{0,255}}|[a-z0-9]{_OF_KEY}{{0,240}}@[a-z]{_OF_KEY}{{0,13}})=[ {_OF_VALUE}]{{0,255}}[{_OF_VALUE}]"
)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span, as others refer to it. Neither of its ids (128 and 64 bits) is 0.

    `state` is what others have put into the trace's tracestate.
    """

    trace_id: int
    span_id: int
    flags: int = _SAMPLED
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded."""
        return bool(self.flags & _SAMPLED)

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """The headers of a call that is made under this span."""
        parent = f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}".encode("ascii")
        return ((TRACEPARENT, parent), *(((TRACESTATE, self.state.encode("ascii")),) if self.state else ()))


def read_context(headers: Mapping[str, str]) -> TraceContext | None:
    """The span under which a call was made, by its headers (lower case); None where they do not tell.

    What cannot be understood is as if it were not there (section 2.2.4): nobody's call fails of it.
    """
    text = headers.get(TRACEPARENT)
    if text is None or len(text) < _LENGTH:
        return None
    version, trace_id, span_id, flags = text[:2], text[3:35], text[36:52], text[53:55]
    if text[2] + text[35] + text[52] != "---" or not _HEX.issuperset(version + trace_id + span_id + flags):
        return None
    # A later version may say more, behind a further dash.
    if version == "ff" or (len(text) > _LENGTH and (version == "00" or text[_LENGTH] != "-")):
        return None
    trace, span = int(trace_id, 16), int(span_id, 16)
    if not trace or not span:
        return None
    return TraceContext(trace, span, int(flags, 16) & _KNOWN_FLAGS, _state(headers.get(TRACESTATE, "")))


def _state(text: str) -> str:
    """A tracestate that may be handed on, or nothing. One that cannot be understood counts as none (section 4.3)."""
    if len(text) > MOST_STATE:
        return ""
    members = [part for part in (each.strip(" \t") for each in text.split(",")) if part]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in found if match is not None}
    return ",".join(members) if len(keys) == len(members) <= _MOST_MEMBERS else ""
