"""A node: one model server, as the edge sees it."""

import math
from dataclasses import dataclass
from typing import Literal

from mesh.errors import MeshError

ProtocolKind = Literal["grpc", "rest"]
"""Which of a node's two endpoints a call needs."""

ReachedBy = Literal["endpoint", "header"]
"""How calls reach a node: Envoy knows its endpoints and is told one of them; or, for a node of another zone that Envoy
does not know by address, a header names the node, and a route of Envoy's leads there."""

_BY_HEADER = "@"


def node_behind(endpoint: str) -> str | None:
    """The id of the node that is reached by the header, where `endpoint` is `@id`; None for an `ip:port`."""
    return endpoint[1:] if endpoint[:1] == _BY_HEADER else None


@dataclass(frozen=True, slots=True)
class Node:
    """One model server that calls can be sent to.

    `grpc` and `rest` are the `ip:port` endpoints at which Envoy knows it; None where it does not
    speak that protocol. `models` are the names it is declared to hold (empty: not declared).
    `residency` is the `ip:port` at which its tbms says what it holds; None where it does not say.
    One that is reached by the header speaks what `speaks` says, too; its addresses are where Envoy's route to it leads,
    which is needed only to write that route.
    Raises MeshError for a node without an id or with a weight that is not a positive number.
    """

    id: str
    grpc: str | None = None
    rest: str | None = None
    zone: str = ""
    weight: float = 1.0
    models: frozenset[str] = frozenset()
    residency: str | None = None
    reached_by: ReachedBy = "endpoint"
    speaks: frozenset[ProtocolKind] = frozenset()

    def __post_init__(self) -> None:
        if not self.id:
            raise MeshError("A node has no id.")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise MeshError(f"The weight of node {self.id!r} is {self.weight}, not a positive number.")

    def endpoint(self, kind: ProtocolKind) -> str | None:
        """Where calls of that kind go: `ip:port`, or `@id` for a node that is reached by the header; or None."""
        address = self.grpc if kind == "grpc" else self.rest
        if self.reached_by == "endpoint":
            return address
        return _BY_HEADER + self.id if address is not None or kind in self.speaks else None

    @property
    def endpoints(self) -> frozenset[str]:
        """Every endpoint of this node to which Envoy sends calls for it."""
        if self.reached_by == "endpoint":
            return frozenset(filter(None, (self.grpc, self.rest)))
        return frozenset(filter(None, (self.endpoint("grpc"), self.endpoint("rest"))))

    @property
    def is_far(self) -> bool:
        """Whether it is reached by the header: Envoy cannot try it in a row with others."""
        return self.reached_by == "header"
