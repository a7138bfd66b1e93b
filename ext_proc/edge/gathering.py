"""Batches at an edge, before model servers that no tbms of ours stands before: a gatherer for each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.terms import Terms
from ext_proc.broker.plan import Candidate
from ext_proc.gathering.batch_call import Caller
from ext_proc.gathering.company import GATHERED_VERBS, wants
from ext_proc.gathering.gatherer import BatchReport, Gatherer
from ext_proc.processing.decision import Held
from ext_proc.tracing.tracer import Tracer
from ext_proc.upstream.client import Request, Response
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call
from ext_proc.wire.rewrite import swap_message, swap_path
from mesh.node import Node

MAX_NODES = 1024
"""Most nodes for which calls are gathered at once; calls to any further one go out as they are."""


class EdgeGathering:
    """Gathers the calls of the models that `settings` names, while `running`. `clock` in seconds, monotonic.

    A node's server is a device of its own, so each node has a gatherer of its own, and a batch goes to one node.
    Batches go out as candidates do: through Envoy's egress listener, with the hop mark. `node_at` knows nodes by
    `ip:port`. `tracer` where calls are traced.
    """

    def __init__(
        self,
        settings: BatchingSettings,
        upstream: Caller,
        hop: HopMark,
        report: BatchReport,
        node_at: Callable[[str], Node | None],
        clock: Callable[[], float],
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._hop = hop
        self._report = report
        self._node_at = node_at
        self._clock = clock
        self._tracer = tracer
        self._group = asyncio.TaskGroup()
        self._gatherers: dict[str, Gatherer] = {}  # by node id; who was asked last is the last

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Batches can go out for the length of the block; those that are on their way at its end are given up."""
        async with self._group:
            try:
                yield
            finally:
                for gatherer in self._gatherers.values():
                    gatherer.stop()

    def schedulers(self) -> list[Scheduler]:
        """Where calls wait now, one for each node."""
        return [gatherer.scheduler for gatherer in self._gatherers.values()]

    def wants(self, call: Call, terms: Terms) -> bool:
        """Whether such a call is to be gathered, if it goes to a node without the node role."""
        return call.verb in GATHERED_VERBS and wants(self._settings, call.model, terms)

    def takes(self, node: Node) -> bool:
        """Whether calls to this node are gathered here: a node with the node role gathers itself."""
        return node.residency is None and (node.id in self._gatherers or self._has_place)

    async def ask(self, held: Held, terms: Terms, arrived: float, nodes: tuple[str, ...]) -> Response:
        """The reply to a call that is placed on `nodes` (`ip:port`, best first). Raises CallError as `Gatherer.ask`."""
        node = self._node_at(nodes[0])
        node_id = nodes[0] if node is None else node.id  # it has left a moment ago
        gatherer = self._gatherers.pop(node_id, None)
        if gatherer is None:
            self._make_place()
            gatherer = Gatherer(
                self._settings, self._upstream, self._report, self._clock, group=self._group, tracer=self._tracer
            )
        self._gatherers[node_id] = gatherer
        return await gatherer.ask(held, terms, arrived, mark=self._hop.headers(nodes))

    def candidate(self, held: Held, candidate: Candidate, terms: Terms, request: Request) -> Awaitable[Response] | None:
        """The reply to a candidate of a race, where that is gathered here. `request` is what would go out for it.

        Calls of a session are not, and copies to shadows.
        """
        if held.seat is not None or not self.wants(called(held.call, candidate), terms):
            return None
        node = self._node_at(request.nodes[0])
        if node is None or not self.takes(node):
            return None
        return self.ask(renamed(held, candidate), terms, self._clock(), request.nodes)

    @property
    def _has_place(self) -> bool:
        """Whether one more node may have a gatherer; one that has nothing to do makes room for it."""
        return len(self._gatherers) < MAX_NODES or self._idle() is not None

    def _make_place(self) -> None:
        if len(self._gatherers) >= MAX_NODES and (idle := self._idle()) is not None:
            self._gatherers.pop(idle).stop()

    def _idle(self) -> str | None:
        return next((node for node, each in self._gatherers.items() if each.is_idle), None)


def called(call: Call, candidate: Candidate) -> Call:
    """The call under the name of a candidate."""
    return replace(call, model=candidate.model, version=candidate.version, label=candidate.label)


def renamed(held: Held, candidate: Candidate) -> Held:
    """The call of a candidate, as if the client had made it. Raises CallError."""
    call = called(held.call, candidate)
    if call == held.call:
        return held
    if held.message is not None:
        pieces = swap_message(held.call, held.message, candidate.model, candidate.version, candidate.label)
        return replace(held, call=call, message=b"".join(pieces))
    path = swap_path(held.call, held.head.headers[":path"], candidate.model, candidate.version, candidate.label)
    head = replace(held.head, headers={**held.head.headers, ":path": path})
    return replace(held, call=call, head=head)
