"""Where nodes come from: the protocol that every source of nodes speaks."""

from collections.abc import AsyncGenerator
from typing import Protocol

from mesh.discovery.merge import NodeSet


class NodeSource(Protocol):
    """Something that knows nodes: a file, DNS, etcd, a control plane.

    docs/decisions/031 says why it hands over whole populations and not single changes.
    """

    def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """The nodes as they are now, and again, complete, each time that they have changed.

        It runs until it is closed. A source that cannot say what the nodes are raises (OSError,
        TimeoutError or MeshError for what is to be expected): its last population stays in force and
        it is asked anew after a pause. A set without nodes means that there are none. `conflicts` are
        sentences about what it was told and could not be used.
        """
        ...
