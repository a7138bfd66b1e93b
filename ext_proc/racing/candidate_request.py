"""One candidate's call: the client's call, rewritten for another model, and placed on a node."""

import math
from collections.abc import Callable, Collection
from math import ceil
from typing import Protocol

from ext_proc.batching.terms import NO_TERMS, Terms, write_terms
from ext_proc.broker import deadline
from ext_proc.broker.effects import Start
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.contract import (
    CALL_HEADER,
    CLAIM_HEADER,
    HOP_HEADER,
    MAX_RETRIES_HEADER,
    MODEL_HEADER,
    NODE_HEADER,
    RESIDENCY_ASK,
    RESIDENCY_HEADER,
    RETRIES_HEADER,
    UPSTREAM_TIMEOUT_HEADER,
)  # fmt: skip
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held, Lease
from ext_proc.upstream.client import Request, Response
from ext_proc.upstream.headers import sent_on
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call
from ext_proc.wire.naming import write_model
from ext_proc.wire.protobuf.fields import Pieces
from ext_proc.wire.rewrite import swap_message, swap_path
from mesh.residency import header as residency_header
from mesh.residency.hints import ReplyHints
from mesh.routing.placement import ExpectedWait

# Steers the race that this call is part of, or is written anew for each candidate.
_NOT_SENT_ON = deadline.HEADERS | {
    CALL_HEADER, CLAIM_HEADER, HOP_HEADER, MODEL_HEADER, "host", NODE_HEADER, RESIDENCY_HEADER, "grpc-timeout",
    "grpc-encoding", "grpc-accept-encoding", UPSTREAM_TIMEOUT_HEADER, MAX_RETRIES_HEADER,
    RETRIES_HEADER,
}  # fmt: skip
# A candidate is given a little more than is left: it is the race that ends it, in time. A node or an Envoy whose timer
# is a moment early would else answer that it failed, where the truth is that the time is up.
_GRACE_MS = 2.0
# On a call that only one node may get.
_BOUND: Headers = ((RETRIES_HEADER, b"0"),)
_ASK: Headers = ((RESIDENCY_HEADER, RESIDENCY_ASK.encode("ascii")),)


class CandidatePlacing(Protocol):
    """Where candidates go; `ext_proc.edge.placing.Placing`, but for tests."""

    def place(
        self,
        call: Call,
        model: str,
        now: float,
        node_id: str | None = None,
        limit: float = math.inf,
        without: Collection[str] = (),
    ) -> tuple[tuple[str, ...], Lease, ExpectedWait]:
        """The nodes for a call, `ip:port`; the lease on the first, and its wait. Raises CallError if none is alive."""

    def expected_wait(
        self, call: Call, model: str, now: float, node_id: str | None = None, limit: float = math.inf
    ) -> ExpectedWait:
        """Whether a call that went out now would wait for a load. Counts nothing."""


class Candidates:
    """Places candidates, and writes their requests. `body_limit` bounds what is read of their replies, in bytes.

    A node that should be heard and is not is asked how the model stands there; see `hints`.
    """

    def __init__(
        self, placing: CandidatePlacing, hop: HopMark, hints: ReplyHints, body_limit: Callable[[], int]
    ) -> None:
        self._placing = placing
        self._hop = hop
        self._hints = hints
        self.body_limit = body_limit

    def expected_wait(self, held: Held, candidate: Candidate, now: float, limit_ms: float = math.inf) -> ExpectedWait:
        """Whether the candidate would wait for a load if it went out now, with so much of its time left."""
        return self._placing.expected_wait(held.call, candidate.model, now, _seat(held), limit_ms / 1000)

    def placed(
        self,
        held: Held,
        start: Start,
        plan: Plan,
        race: str | None,
        now: float,
        without: Collection[str] = (),
    ) -> tuple[Request, Lease, ExpectedWait]:
        """The request for a candidate of the plan, and what its node makes it wait for. Raises CallError.

        `without` are ids of nodes that have failed it. `race` is told to the nodes of all candidates of one race. The
        call counts as load of its node until its lease is released.
        """
        model, hints = start.candidate.model, self._hints
        nodes, lease, expected_wait = self._placing.place(
            held.call, model, now, _seat(held), start.remaining_ms / 1000, without
        )
        terms = terms_of(start, plan, race)
        asks = bool(hints.silent) and hints.wants_residency(nodes[0], model, now)
        try:
            return self._request(held, start, terms, nodes, asks=asks), lease, expected_wait
        except BaseException:
            lease.release()
            raise

    def replied(self, candidate: Candidate, response: Response, now: float) -> None:
        """Takes in what the node says of the model, where it was asked."""
        if response.residency is None:
            return
        word = residency_header.read_word(response.residency)
        if word is not None:
            self._hints.told(response.node, candidate.model, *word, now)

    def _request(self, held: Held, start: Start, terms: Terms, nodes: tuple[str, ...], *, asks: bool) -> Request:
        call, candidate, headers = held.call, start.candidate, held.head.headers
        ms = start.remaining_ms + _GRACE_MS
        own: Headers = (
            *self._hop.headers(nodes),
            (MODEL_HEADER, write_model(candidate.model, candidate.version, candidate.label).encode("ascii")),
        )
        if terms != NO_TERMS:
            own += ((CALL_HEADER, write_terms(terms).encode("ascii")),)
        if asks:
            own += _ASK
        if held.seat is not None:
            own += _BOUND
            if held.seat.claim:
                own += ((CLAIM_HEADER, held.seat.claim.encode("ascii")),)
        authority = headers.get(":authority", "")
        sent = sent_on(held, _NOT_SENT_ON)
        if call.protocol.is_grpc:
            message = _message(held, candidate)
            return Request(headers[":path"], "POST", authority, sent + own, message, ms / 1000, True, nodes)
        if ms < math.inf:
            own += ((UPSTREAM_TIMEOUT_HEADER, b"%d" % ceil(ms)),)
        path = headers[":path"]
        if not _is_same(call, candidate):
            path = swap_path(call, path, candidate.model, candidate.version, candidate.label)
        return Request(path, headers[":method"], authority, sent + own, held.chunks, ms / 1000, False, nodes)


def terms_of(start: Start, plan: Plan, race: str | None) -> Terms:
    """What a node is told of a candidate."""
    return Terms(start.remaining_ms, plan.cross_lag_ms, plan.cross_request, plan.priority, start.rank, race)


def _seat(held: Held) -> str | None:
    return None if held.seat is None else held.seat.node_id


def _message(held: Held, candidate: Candidate) -> Pieces:
    """The bare gRPC message for the candidate, never compressed."""
    assert held.message is not None, "a gRPC call is unpacked before it is raced"
    if _is_same(held.call, candidate):
        return (held.message,)
    return swap_message(held.call, held.message, candidate.model, candidate.version, candidate.label)


def _is_same(call: Call, candidate: Candidate) -> bool:
    return (call.model, call.version, call.label) == (candidate.model, candidate.version, candidate.label)
