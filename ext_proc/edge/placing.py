"""Placing: from a call and a model to the nodes, in the words that the edge needs of the router."""

from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Lease
from ext_proc.wire.call import Call
from mesh.routing.placement import ExpectedWait, NoNode, Placement
from mesh.routing.router import Router


class Placing:
    """Asks the router, for calls that are routed at once and for candidates of a race. Times are monotonic seconds."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def pick(self, call: Call, model: str, now: float) -> Placement:
        """The nodes for a call that goes out now to `model`. Raises CallError (UNAVAILABLE) if none is alive."""
        try:
            return self._router.pick(model, now, call.protocol.kind)
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None

    def lease(self, placement: Placement) -> Lease:
        """Counts the call that was just picked until its end; see `Router.lease`."""
        return self._router.lease(placement)

    def place(self, call: Call, model: str, now: float) -> tuple[tuple[str, ...], Lease, ExpectedWait]:
        """For a candidate that goes out now: its nodes (`ip:port`), and of the first the lease and the expected wait.

        Raises CallError (UNAVAILABLE) if none is alive.
        """
        placement = self.pick(call, model, now)
        expected_wait = self._router.wait_on(placement.nodes[0].id, model, now)
        return placement.endpoints(call.protocol.kind), self._router.lease(placement), expected_wait

    def expected_wait(self, call: Call, model: str, now: float) -> ExpectedWait:
        """Whether a candidate would wait for a load if it went out now. Counts nothing."""
        return self._router.expected_wait(model, now, call.protocol.kind)
