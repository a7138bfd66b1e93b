"""Placing: from a call and a model to the nodes, in the words that the edge needs of the router."""

import math
from collections.abc import Collection

from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Lease
from ext_proc.wire.call import Call
from mesh.routing.placement import ExpectedWait, NoNode, Placement
from mesh.routing.router import Router


class Placing:
    """Asks the router, for calls that are routed at once and for candidates of a race. Times are monotonic seconds."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def pick(
        self, call: Call, model: str, now: float, limit: float = math.inf, without: Collection[str] = ()
    ) -> Placement:
        """The nodes for a call that goes out now to `model`; `limit` and `without` are those of `Router.pick`.

        Raises CallError (UNAVAILABLE) if none is alive.
        """
        try:
            return self.router.pick(model, now, call.protocol.kind, limit, without)
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None

    def at(self, call: Call, node_id: str, model: str, now: float) -> Placement:
        """That node alone, for a call that goes out now to `model`. Raises CallError (UNAVAILABLE) if it cannot be."""
        try:
            return self.router.pick_node(node_id, model, now, call.protocol.kind)
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None

    def lease(self, placement: Placement) -> Lease:
        """Counts the call that was just picked until its end; see `Router.lease`."""
        return self.router.lease(placement)

    def place(
        self,
        call: Call,
        model: str,
        now: float,
        node_id: str | None = None,
        limit: float = math.inf,
        without: Collection[str] = (),
    ) -> tuple[tuple[str, ...], Lease, ExpectedWait]:
        """For a candidate that goes out now: its nodes (`ip:port`), and of the first the lease and the expected wait.

        With `node_id` that node alone; otherwise as `pick`. Raises CallError (UNAVAILABLE) if none is alive.
        """
        if node_id is None:
            placement = self.pick(call, model, now, limit, without)
        else:
            placement = self.at(call, node_id, model, now)
        expected_wait = self.router.wait_on(placement.nodes[0].id, model, now)
        return placement.endpoints(call.protocol.kind), self.lease(placement), expected_wait

    def expected_wait(
        self, call: Call, model: str, now: float, node_id: str | None = None, limit: float = math.inf
    ) -> ExpectedWait:
        """Whether a candidate would wait for a load if it went out now, or to that node. Counts nothing."""
        if node_id is not None:
            return self.router.wait_on(node_id, model, now)
        return self.router.expected_wait(model, now, call.protocol.kind, limit)


class UncountedPlacing(Placing):
    """Says where calls would go now, and counts none of them: for calls that are explained and never made."""

    def pick(
        self, call: Call, model: str, now: float, limit: float = math.inf, without: Collection[str] = ()
    ) -> Placement:
        """As `Placing.pick` would say."""
        try:
            return self.router.would_pick(model, now, call.protocol.kind, limit, without)
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None

    def at(self, call: Call, node_id: str, model: str, now: float) -> Placement:
        """As `Placing.at` would say."""
        try:
            return self.router.would_pick_node(node_id, call.protocol.kind)
        except NoNode as error:
            raise CallError(Reason.UNAVAILABLE, str(error)) from None

    def lease(self, placement: Placement) -> Lease:
        """Nothing is held."""
        return _NO_LEASE

    def expected_wait(
        self, call: Call, model: str, now: float, node_id: str | None = None, limit: float = math.inf
    ) -> ExpectedWait:
        """As `Placing.expected_wait`."""
        if node_id is not None:
            return self.router.wait_on(node_id, model, now)
        return self.router.expected_wait(model, now, call.protocol.kind, limit, remember=False)


class _NoLease:
    def release(self) -> None:
        """There is nothing to give back."""


_NO_LEASE = _NoLease()
