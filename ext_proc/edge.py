"""The edge role: decides which node a client's call goes to."""

from ext_proc.errors import CallError, Reason
from ext_proc.stream.decision import Decision, Held, Route
from ext_proc.stream.events import Head
from ext_proc.wire.call import Call
from mesh.node import ProtocolKind
from mesh.routing.pick import NoNode, Router


class Edge:
    """Names in, nodes out. Lives as long as the process; a reload changes what it was given."""

    def __init__(self, router: Router, body_limit: int) -> None:
        self._router = router
        self.body_limit = body_limit

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """The nodes for a call, best first. Raises CallError (UNAVAILABLE) if none is alive."""
        kind: ProtocolKind = "grpc" if call.protocol.is_grpc else "rest"
        try:
            nodes = self._router.pick(call.model, now, kind).nodes
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None
        return Route(tuple([endpoint for node in nodes if (endpoint := node.endpoint(kind))]), nodes[0].id)

    async def resolve(self, held: Held) -> Decision:
        """An edge holds no plain call."""
        raise NotImplementedError

    def started(self, node: str) -> None:
        """A call is on its way to the node."""
        self._router.started(node)

    def finished(self, node: str) -> None:
        """A call to the node is over."""
        self._router.finished(node)
