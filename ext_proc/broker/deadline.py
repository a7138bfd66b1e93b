"""What a call asks of the time broker: the headers `tloc`, `backup`, `primary`, `tbms-key` and `grpc-timeout`.

gRPC metadata use the same names. Repeated lines of one header count as one list (RFC 9651, section 4.2).
"""

from dataclasses import dataclass
from typing import Final

import http_sfv

from ext_proc.broker import fields
from ext_proc.broker.plan import AnswerMode, Mix, RankedTarget
from ext_proc.contract import RACE_HEADERS, SPLIT_KEY_HEADER
from ext_proc.errors import CallError, Reason
from mesh.bounded import ByteMemo

HEADERS = frozenset({*RACE_HEADERS, SPLIT_KEY_HEADER})
"""The headers that are the broker's own; `grpc-timeout` is read as well, and left to gRPC."""

_MAX_KEY = 256
_GRPC_UNITS_MS = {"H": 3_600_000.0, "M": 60_000.0, "S": 1000.0, "m": 1.0, "u": 1e-3, "n": 1e-6}


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """The `tloc` header. Fields that it does not give are None: the model's settings decide."""

    tloc_ms: float
    estimate_ms: float | None = None
    cross_request: bool | None = None
    cross_lag_ms: float | None = None
    priority: int | None = None
    answer: AnswerMode | None = None


@dataclass(slots=True, init=False)
class CallOptions:
    """All that the headers of one call ask for. `backups` is None where the header is absent."""

    limit: Final[TimeLimit | None]
    backups: Final[tuple[RankedTarget, ...] | None]
    primary: Final[Mix | None]
    key: Final[str | None]
    grpc_timeout_ms: Final[float | None]

    def __init__(
        self,
        limit: TimeLimit | None = None,
        backups: tuple[RankedTarget, ...] | None = None,
        primary: Mix | None = None,
        key: str | None = None,
        grpc_timeout_ms: float | None = None,
    ) -> None:
        self.limit = limit
        self.backups = backups
        self.primary = primary
        self.key = key
        self.grpc_timeout_ms = grpc_timeout_ms

    @property
    def races(self) -> bool:
        """Whether the client itself asks for a race."""
        return self.limit is not None or self.backups is not None or self.primary is not None


NOTHING = CallOptions()
"""The options of a call without any of these headers."""


def read_options(
    *,
    tloc: str | None = None,
    backup: str | None = None,
    primary: str | None = None,
    key: str | None = None,
    grpc_timeout: str | None = None,
) -> CallOptions:
    """Reads the headers of one call. Raises CallError(INVALID) that names the header, the place in it and the rule."""
    if tloc is backup is primary is key is grpc_timeout is None:
        return NOTHING
    return CallOptions(
        limit=None if tloc is None else read_tloc(tloc),
        backups=None if backup is None else read_backup(backup),
        primary=None if primary is None else read_primary(primary),
        key=None if key is None else _read_key(key),
        grpc_timeout_ms=None if grpc_timeout is None else read_grpc_timeout(grpc_timeout),
    )


def read_tloc(text: str) -> TimeLimit:
    """Reads `50;est=35;cross-request=1;cross-lag=10;priority=0;answer=best`; a limit of 0 is one that has passed."""
    return _TLOCS[text]


def _tloc(text: str) -> TimeLimit:
    try:
        item = fields.parse(http_sfv.Item(), text)
        if not fields.is_number(item.value) or not 0 <= item.value <= fields.MAX_ESTIMATE_MS:
            raise fields.FieldError(f"value is a number of milliseconds from 0 to {fields.MAX_ESTIMATE_MS}")
        params, where = item.params, "value"
        fields.known(params, {"est", "cross-request", "cross-lag", "priority", "answer"}, where)
        shares = params.get("cross-request")
        if shares is not None and (not isinstance(shares, int) or shares not in (0, 1)):
            raise fields.FieldError("value: cross-request is 0 or 1")
        priority = params.get("priority")
        if priority is not None and (not fields.is_whole(priority) or abs(priority) > fields.MAX_PRIORITY):
            most = fields.MAX_PRIORITY
            raise fields.FieldError(f"value: priority is a whole number from -{most} to {most}")
        answer = params.get("answer")
        if answer is not None and answer not in set(AnswerMode):
            raise fields.FieldError("value: answer is best or first")
        return TimeLimit(
            tloc_ms=float(item.value),
            estimate_ms=fields.number(params, "est", where, fields.MAX_ESTIMATE_MS),
            cross_request=None if shares is None else bool(shares),
            cross_lag_ms=fields.number(params, "cross-lag", where, fields.MAX_ESTIMATE_MS),
            priority=priority,
            answer=None if answer is None else AnswerMode(answer),
        )
    except fields.FieldError as error:
        raise _invalid("tloc", error) from error


def read_backup(text: str) -> tuple[RankedTarget, ...]:
    """Reads the ranked backups."""
    return _BACKUPS[text]


def _backup(text: str) -> tuple[RankedTarget, ...]:
    try:
        return fields.read_targets(text)
    except fields.FieldError as error:
        raise _invalid("backup", error) from error


def read_primary(text: str) -> Mix:
    """Reads the primary, which is a mix: a single model is named by the call itself."""
    return _PRIMARIES[text]


def _primary(text: str) -> Mix:
    try:
        targets = fields.read_targets(text)
        if len(targets) != 1 or not isinstance(targets[0], Mix):
            raise fields.FieldError(
                "value is one inner list, for example (a b);mix=max, since the call names one model"
            )
        return targets[0]
    except fields.FieldError as error:
        raise _invalid("primary", error) from error


# A client sends the same few values with every call, so that most are read already.
_TLOCS = ByteMemo(_tloc)
_BACKUPS = ByteMemo(_backup)
_PRIMARIES = ByteMemo(_primary)


def read_grpc_timeout(text: str) -> float:
    """Reads a gRPC deadline into ms: at most eight digits and a unit (gRPC over HTTP/2, `Timeout`)."""
    digits, unit = text[:-1], text[-1:]
    if unit not in _GRPC_UNITS_MS or not (1 <= len(digits) <= 8 and digits.isascii() and digits.isdigit()):
        raise CallError(Reason.INVALID, "Header grpc-timeout: value is one to eight digits and one of H M S m u n.")
    return int(digits) * _GRPC_UNITS_MS[unit]


def _read_key(text: str) -> str:
    try:
        value = fields.parse(http_sfv.Item(), text).value
        if not (isinstance(value, str) or fields.is_number(value)) or not 1 <= len(str(value)) <= _MAX_KEY:
            raise fields.FieldError(f"value is a token, a string or a number of 1 to {_MAX_KEY} characters")
        return str(value)
    except fields.FieldError as error:
        raise _invalid("tbms-key", error, ' Quote it: "user 17".') from error


def _invalid(header: str, error: fields.FieldError, hint: str = "") -> CallError:
    return CallError(Reason.INVALID, f"Header {header}: {error}.{hint}")
