"""What can be decided about a call; the machine turns a decision into messages."""

from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from ext_proc.errors import CallError
from ext_proc.processing.request import Head
from ext_proc.wire.call import Call
from ext_proc.wire.framing import most_plain, unframe
from ext_proc.wire.protobuf.fields import Pieces
from mesh.trace_context import TraceContext


class Lease(Protocol):
    """What a call holds while it runs: a model that may not be unloaded, a place among a node's calls in flight."""

    def release(self) -> None:
        """The call is over, as far as this process hears of it. Called once, however the call ended."""


@dataclass(slots=True, init=False)
class Pass:
    """Goes on untouched, but for headers that only we may set. `lease` is released when the call is over."""

    lease: Final[Lease | None]

    def __init__(self, lease: Lease | None = None) -> None:
        self.lease = lease


@dataclass(slots=True, init=False)
class Route:
    """Goes on to the first of `nodes` (`ip:port`, best first) that accepts it, or to the one that a header names.

    That one is written `@id`, and stands alone.
    `lease` is released when the call is over; None where its end is not heard of. `headers` are set on the request,
    and `body`, if given, goes on in place of the client's, in these pieces (only for a call that was collected).
    `wants_residency` names a model: the node is asked to say in its reply how it stands there, and the reply is shown
    to the policy. Where Envoy cannot do that, the call goes on without. `keeps` are headers that steer and that the
    request has from us, not from a client: they go on. Where the body was buffered (Envoy 1.36), `body` may not be
    given.
    """

    nodes: Final[tuple[str, ...]]
    lease: Final[Lease | None]
    headers: Final[tuple[tuple[str, str], ...]]
    body: Final[Pieces | None]
    wants_residency: Final[str]
    keeps: Final[tuple[str, ...]]

    def __init__(
        self,
        nodes: tuple[str, ...],
        lease: Lease | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: Pieces | None = None,
        wants_residency: str = "",
        keeps: tuple[str, ...] = (),
    ) -> None:
        self.nodes = nodes
        self.lease = lease
        self.headers = headers
        self.body = body
        self.wants_residency = wants_residency
        self.keeps = keeps


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answered by us with an error, in the words of the call's protocol."""

    error: CallError


@dataclass(slots=True, init=False)
class Respond:
    """Answered by us. With `trailers` it is a gRPC answer: `body` is one framed message, or empty for an error.

    Header values are bytes, so that what a node sent goes on as it was.
    """

    status: Final[int]
    headers: Final[tuple[tuple[str, bytes], ...]]
    body: Final[bytes]
    trailers: Final[tuple[tuple[str, bytes], ...] | None]

    def __init__(
        self,
        status: int,
        headers: tuple[tuple[str, bytes], ...],
        body: bytes,
        trailers: tuple[tuple[str, bytes], ...] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.trailers = trailers


@dataclass(slots=True, init=False)
class Hold:
    """Not decided yet. With `collect`, the whole body is wanted first. `Machine.decided` ends it.

    With `otherwise` a body of more than `most` bytes is not collected: the call goes on so. `context` is what the
    policy wants to find again in `Held`; nobody else looks at it.
    """

    collect: Final[bool]
    context: Final[Any]
    most: Final[int]
    otherwise: Final[Route | None]

    def __init__(
        self, collect: bool = False, context: Any = None, most: int = 0, otherwise: Route | None = None
    ) -> None:
        self.collect = collect
        self.context = context
        self.most = most
        self.otherwise = otherwise


Decision = Pass | Route | Refuse | Respond | Hold


@dataclass(frozen=True, slots=True)
class HeaderMutation:
    """What is changed of a reply's headers before it goes on."""

    headers: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a call of a session goes: to the node of that id and to no other. `claim` tells it of the session.

    Without a claim (empty) it is told nothing: it is a model server that no tbms of ours stands before.
    """

    node_id: str
    claim: str


@dataclass(slots=True, init=False)
class Held:
    """A call that waits for a decision: the head, what it asks for, and the chunks of its body if it was collected.

    `message` is the plain message of a gRPC call, once it is unpacked; `seat` is that of its session, if it has one;
    `trace` is the span under which all is done that is done for it, if it is traced.
    """

    head: Final[Head]
    call: Final[Call]
    chunks: Final[tuple[bytes, ...]]
    context: Final[Any]
    message: Final[bytes | None]
    seat: Final[Seat | None]
    trace: Final[TraceContext | None]

    def __init__(
        self,
        head: Head,
        call: Call,
        chunks: tuple[bytes, ...],
        context: Any = None,
        message: bytes | None = None,
        seat: Seat | None = None,
        trace: TraceContext | None = None,
    ) -> None:
        self.head = head
        self.call = call
        self.chunks = chunks
        self.context = context
        self.message = message
        self.seat = seat
        self.trace = trace

    @property
    def size(self) -> int:
        """Bytes of the body as it came."""
        return sum(map(len, self.chunks))

    def most_plain(self, limit: int) -> int:
        """Bytes that a packed body may have at most once it is unpacked; what that costs goes by it."""
        return most_plain(self.chunks, limit)

    def unpacked(self, limit: int) -> Self:
        """The gRPC call with its message, of at most `limit` bytes. Raises CallError."""
        encoding = self.head.headers.get("grpc-encoding", "identity")
        return replace(self, message=unframe(self.chunks, encoding, limit))
