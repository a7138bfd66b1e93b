"""What an edge tells a node, in the head of a call, of the session that the call belongs to.

    x-tbms-session: 9f86d081884c7d659a2feaa0c55ad015;idle=60
    x-tbms-session: 9f86d081884c7d659a2feaa0c55ad015;idle=60;end

Structured fields (RFC 9651): a token that stands for the session on every edge and node, with the parameters `idle`,
the whole seconds for which the session lives without a call, and `end` on its last call. A reader passes over
parameters that it does not know.
"""

import re
from dataclasses import dataclass

from mesh.digits import number

MAX_LENGTH = 128
"""Characters of a value that is read at all."""
MAX_IDLE_SECONDS = 86_400

_KEY = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """The session of one call: `key` is 32 hex digits, the same for all its calls; `last` is said by its last call."""

    key: str
    idle_seconds: int
    last: bool = False


def write_claim(claim: SessionClaim) -> str:
    """The header's value."""
    return f"{claim.key};idle={claim.idle_seconds};end" if claim.last else f"{claim.key};idle={claim.idle_seconds}"


def read_claim(value: str | None) -> SessionClaim | None:
    """The claim; None for what no edge says."""
    if value is None or len(value) > MAX_LENGTH:
        return None
    key, *parameters = (part.strip(" ") for part in value.split(";"))
    idle, last = None, False
    for parameter in parameters:
        name, _, given = parameter.partition("=")
        if name == "idle":
            idle = number(given, 5)
        elif name == "end":
            last = given in ("", "?1")
    if idle is None or not 1 <= idle <= MAX_IDLE_SECONDS or not _KEY.fullmatch(key):
        return None
    return SessionClaim(key, idle, last)
