"""A node: one model server, as the edge sees it."""

import math
from dataclasses import dataclass
from typing import Literal

from mesh.errors import MeshError

ProtocolKind = Literal["grpc", "rest"]
"""Which of a node's two endpoints a call needs."""


@dataclass(frozen=True, slots=True)
class Node:
    """One model server that calls can be sent to.

    `grpc` and `rest` are the `ip:port` endpoints at which Envoy knows it; None where it does not
    speak that protocol. `models` are the names it is declared to hold (empty: not declared).
    `residency` is the `ip:port` at which its tbms says what it holds; None where it does not say.
    Raises MeshError for a node without an id or with a weight that is not a positive number.
    """

    id: str
    grpc: str | None = None
    rest: str | None = None
    zone: str = ""
    weight: float = 1.0
    models: frozenset[str] = frozenset()
    residency: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise MeshError("A node has no id.")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise MeshError(f"The weight of node {self.id!r} is {self.weight}, not a positive number.")

    def endpoint(self, kind: ProtocolKind) -> str | None:
        """The `ip:port` for calls of that kind, or None."""
        return self.grpc if kind == "grpc" else self.rest

    @property
    def endpoints(self) -> frozenset[str]:
        """Every `ip:port` of this node at which Envoy sends calls to it."""
        return frozenset(endpoint for endpoint in (self.grpc, self.rest) if endpoint is not None)
