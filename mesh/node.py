"""A node: one model server, as the edge sees it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """One model server that calls can be sent to.

    `grpc` and `rest` are the `ip:port` endpoints at which Envoy knows it; None where it does not
    speak that protocol. `models` are the names it is declared to hold (empty: not declared).
    """

    id: str
    grpc: str | None = None
    rest: str | None = None
    zone: str = ""
    weight: float = 1.0
    models: frozenset[str] = frozenset()
