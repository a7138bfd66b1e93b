"""What the router answers: the nodes for one call, none, or how every node stands for a model."""

from dataclasses import dataclass

from mesh.errors import MeshError
from mesh.node import Node, ProtocolKind
from mesh.residency.state import Residency


class NoNode(MeshError):
    """No node can be given the call. The message is one sentence fit for a client."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The nodes for one call, never empty: the first gets the call, the later ones serve Envoy's retries in order."""

    nodes: tuple[Node, ...]

    def endpoints(self, kind: ProtocolKind) -> tuple[str, ...]:
        """Where the nodes take such a call: `ip:port`."""
        return tuple([endpoint for node in self.nodes if (endpoint := node.endpoint(kind)) is not None])


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """One node's standing for one model, for people to read.

    `rank` is its position in the rendezvous order (0 is the model's home); `load` is in calls in flight. `over_bound`:
    one more call would be more than its share. `remote`: it is in another zone than this process.
    """

    node: Node
    rank: int
    alive: bool
    state: Residency
    load: float
    over_bound: bool = False
    remote: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedWait:
    """With `cold` a load comes first, of so many seconds as far as the node has told (None: it has not)."""

    cold: bool = False
    load_seconds: float | None = None


RESIDENT = ExpectedWait()
"""The node holds the model, or does not tell what it holds."""
