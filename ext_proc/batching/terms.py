"""The terms of a call at a node: how long its caller waits, and how it may share a batch.

An edge tells them in the header `x-tbms-call`, an Item of RFC 9651:

    x-tbms-call: 37.4;race=r5c0ffee1a2.7;lag=10;share;priority=3;rank=1

The item is what was left of the limit when it was written, in milliseconds, or the token `none`. Parameters: `race` (a
Token), `lag` (ms), `share` (a Boolean), `priority` and `rank` (Integers, 0 where they are missing). Those of a newer
edge that are not known here are passed over. No two calls have the same value; so what differs stands first, what
follows is remembered, and none of it goes through a parser of all of RFC 9651, which takes seven times as long.

Calls that come to a node past any edge say the same in `tloc`. A deadline of gRPC, and what Envoy says of a route's
time, bound every call.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ext_proc.broker.deadline import read_grpc_timeout, read_tloc
from ext_proc.broker.fields import MAX_ESTIMATE_MS, MAX_PRIORITY
from ext_proc.contract import CALL_HEADER, TLOC_HEADER
from ext_proc.errors import CallError, Reason
from mesh.bounded import ByteMemo
from mesh.digits import number

MAX_RANK: Final = 999
_MAX_TEXT: Final = 512  # characters; what we write has a hundred at most
_UNLIMITED: Final = "none"
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,3})?")
_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,63}")
_ENVOY_TIMEOUT_DIGITS: Final = 9  # a number of more digits is no timeout of a route


@dataclass(slots=True, init=False)
class Terms:
    """What a node is told of one call. Fields that are None are left to the model's settings.

    `limit_ms` counts from the moment at which it was written or read (infinite: no limit). `lag_ms` is the longest that
    the call may wait for company, `shares` whether it may have any. `priority`: higher first. `rank` of the candidate
    in its race, 0 for the primary; the candidates of one race have the same `race`.
    """

    limit_ms: Final[float]
    lag_ms: Final[float | None]
    shares: Final[bool | None]
    priority: Final[int]
    rank: Final[int]
    race: Final[str | None]

    def __init__(
        self,
        limit_ms: float = math.inf,
        lag_ms: float | None = None,
        shares: bool | None = None,
        priority: int = 0,
        rank: int = 0,
        race: str | None = None,
    ) -> None:
        self.limit_ms = limit_ms
        self.lag_ms = lag_ms
        self.shares = shares
        self.priority = priority
        self.rank = rank
        self.race = race


NO_TERMS: Final = Terms()
"""Those of a call that says nothing."""


def write_terms(terms: Terms) -> str:
    """The value of `x-tbms-call`. A limit that has passed is 0, one of more than an hour an hour."""
    parts = [_UNLIMITED if terms.limit_ms == math.inf else _written(terms.limit_ms)]
    if terms.race is not None:
        parts.append(f"race={terms.race}")
    if terms.lag_ms is not None:
        parts.append(f"lag={_written(terms.lag_ms)}")
    if terms.shares is not None:
        parts.append("share" if terms.shares else "share=?0")
    if terms.priority:
        parts.append(f"priority={terms.priority}")
    if terms.rank:
        parts.append(f"rank={min(terms.rank, MAX_RANK)}")
    return ";".join(parts)


def read_terms(headers: Mapping[str, str]) -> Terms:
    """The terms of a call that may be batched, by its lower-case headers.

    `x-tbms-call` stands for the `tloc` that the edge has read; the least limit of any header holds. Raises
    CallError(INVALID) that names the header which cannot be read: batched by a wrong reading, the call would wait for
    too long, or beside others that it did not agree to.
    """
    terms = NO_TERMS
    if (told := headers.get(CALL_HEADER)) is not None:
        terms = _told(told)
    elif (asked := headers.get(TLOC_HEADER)) is not None:
        terms = _ASKED[asked]
    limit_ms = terms.limit_ms
    for name, read_ms in _DEADLINES.items():
        text = headers.get(name)
        if text is not None:
            limit_ms = min(limit_ms, read_ms(text))
    return terms if limit_ms == terms.limit_ms else replace(terms, limit_ms=limit_ms)


def remaining_seconds(headers: Mapping[str, str]) -> float:
    """The least limit that a header sets, for a call that is not batched; infinite where none does.

    A header that cannot be read sets no limit: it is the edge that refuses a plain call for it, or nobody.
    """
    least_ms = math.inf
    for name, read_ms in _LIMITS.items():
        text = headers.get(name)
        if text is not None:
            try:
                least_ms = min(least_ms, read_ms(text))
            except CallError:
                continue
    return least_ms / 1000


def _envoy_timeout_ms(text: str) -> float:
    ms = number(text, _ENVOY_TIMEOUT_DIGITS)
    return math.inf if ms is None else ms


_DEADLINES: Final[dict[str, Callable[[str], float]]] = {
    "grpc-timeout": read_grpc_timeout,
    "x-envoy-expected-rq-timeout-ms": _envoy_timeout_ms,  # what is left of a route's timeout, by the Envoy before
}
_LIMITS: Final[dict[str, Callable[[str], float]]] = {
    CALL_HEADER: lambda text: _told(text).limit_ms,
    TLOC_HEADER: lambda text: read_tloc(text).tloc_ms,
    **_DEADLINES,
}
"""Each header that sets a limit, and its limit in milliseconds. The readers raise CallError."""


def _asked(tloc: str) -> Terms:
    wish = read_tloc(tloc)
    return Terms(wish.tloc_ms, wish.cross_lag_ms, wish.cross_request, wish.priority or 0)


_ASKED: Final = ByteMemo(_asked)  # clients send the same few


def _told(text: str) -> Terms:
    if len(text) > _MAX_TEXT:
        raise _invalid(f"is {len(text)} characters long; at most {_MAX_TEXT} are read")
    limit, _, rest = text.partition(";")
    race: str | None = None
    if rest.startswith("race="):
        first, _, rest = rest.partition(";")
        race = _race(first[5:])
    terms = _TOLD[rest]
    limit_ms = math.inf if limit == _UNLIMITED else _ms(limit, "value")
    return Terms(limit_ms, terms.lag_ms, terms.shares, terms.priority, terms.rank, race or terms.race)


def _params(text: str) -> Terms:
    lag_ms: float | None = None
    shares: bool | None = None
    priority = rank = 0
    race: str | None = None
    for param in text.split(";"):
        name, given, value = param.lstrip(" ").partition("=")
        if name == "lag":
            lag_ms = _ms(value, "lag")
        elif name == "share":
            shares = _boolean(value if given else "?1")
        elif name == "priority":
            priority = _priority(value)
        elif name == "rank":
            rank = _rank(value)
        elif name == "race":
            race = _race(value)
    return Terms(math.inf, lag_ms, shares, priority, rank, race)


_TOLD: Final = ByteMemo(_params)


def _ms(text: str, what: str) -> float:
    if _DECIMAL.fullmatch(text) is None or (ms := float(text)) > MAX_ESTIMATE_MS:
        raise _invalid(f"{what} is a number of milliseconds from 0 to {MAX_ESTIMATE_MS}")
    return ms


def _boolean(text: str) -> bool:
    if text not in ("?0", "?1"):
        raise _invalid("share is ?0 or ?1")
    return text == "?1"


def _priority(text: str) -> int:
    size = number(text.removeprefix("-"), len(str(MAX_PRIORITY)))
    if size is None or size > MAX_PRIORITY:
        raise _invalid(f"priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return -size if text[0] == "-" else size


def _rank(text: str) -> int:
    rank = number(text, len(str(MAX_RANK)))
    if rank is None:
        raise _invalid(f"rank is a whole number from 0 to {MAX_RANK}")
    return rank


def _race(text: str) -> str:
    if _TOKEN.fullmatch(text) is None:
        raise _invalid("race is a token of 1 to 64 characters")
    return text


def _written(ms: float) -> str:
    """A Decimal, of which RFC 9651 allows three places."""
    return f"{min(max(ms, 0.0), MAX_ESTIMATE_MS):.3f}".rstrip("0").rstrip(".")


def _invalid(rule: str) -> CallError:
    return CallError(Reason.INVALID, f"Header {CALL_HEADER}: {rule}.")
