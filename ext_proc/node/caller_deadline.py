"""The caller's deadline: how long whoever sent a call still waits, as far as the call's headers tell."""

import math
from collections.abc import Callable, Mapping

from ext_proc.broker.deadline import read_grpc_timeout, read_tloc
from ext_proc.contract import TLOC_HEADER
from ext_proc.errors import CallError
from mesh.digits import number

_ENVOY_TIMEOUT_DIGITS = 9  # a number of more digits is no timeout of a route


def _envoy_timeout_ms(text: str) -> float:
    ms = number(text, _ENVOY_TIMEOUT_DIGITS)
    return math.inf if ms is None else ms


_MS_BY_HEADER: dict[str, Callable[[str], float]] = {
    TLOC_HEADER: lambda text: read_tloc(text).tloc_ms,
    "grpc-timeout": read_grpc_timeout,
    "x-envoy-expected-rq-timeout-ms": _envoy_timeout_ms,  # what is left of a route's timeout, by the Envoy before
}
"""Each header that sets a limit, and its limit in milliseconds. The readers raise CallError."""


def remaining_seconds(headers: Mapping[str, str]) -> float:
    """The least limit that a header sets; infinite where none does.

    A header that cannot be read sets no limit: it is the edge that refuses a call for it.
    """
    least_ms = math.inf
    for name, read_ms in _MS_BY_HEADER.items():
        text = headers.get(name)
        if text is not None:
            try:
                least_ms = min(least_ms, read_ms(text))
            except CallError:
                continue
    return least_ms / 1000
