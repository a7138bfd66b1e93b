"""How long the caller of a held call still waits, as far as its headers tell."""

import math
from collections.abc import Callable, Mapping

from ext_proc.broker.deadline import read_grpc_timeout, read_tloc
from ext_proc.errors import CallError
from mesh.digits import number


def _envoy_ms(text: str) -> float:
    ms = number(text, 9)
    return math.inf if ms is None else ms


_READERS: dict[str, Callable[[str], float]] = {
    "tloc": lambda text: read_tloc(text).tloc_ms,
    "grpc-timeout": read_grpc_timeout,
    "x-envoy-expected-rq-timeout-ms": _envoy_ms,  # what is left of a route's timeout, by the Envoy before this one
}


def patience(headers: Mapping[str, str]) -> float:
    """Seconds; infinite where no header sets a limit. One that cannot be read sets none: an edge has judged it."""
    least = math.inf
    for name, read in _READERS.items():
        text = headers.get(name)
        if text is not None:
            try:
                least = min(least, read(text))
            except CallError:
                continue
    return least / 1000
