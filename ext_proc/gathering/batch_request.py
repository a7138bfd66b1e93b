"""The request that a batch goes out as, and whether a failed one may be asked again in parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ext_proc.broker import deadline
from ext_proc.contract import STEERING_HEADERS
from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held
from ext_proc.upstream.client import Request, Response
from ext_proc.upstream.handing_on import GRPC
from ext_proc.upstream.headers import sent_on
from ext_proc.wire.batch import Member, Written, padding
from ext_proc.wire.call import Call
from ext_proc.wire.codecs import batches_of
from ext_proc.wire.v2.across import INFER_PATH, rest_reply
from mesh.trace_context import TraceContext

# Written anew, or of the connection to Envoy only.
_NOT_SENT_ON: Final = frozenset(
    {*STEERING_HEADERS, *deadline.HEADERS, "host", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"}
)
# What calls that share a batch have in common beside their body; a packing of the reply could not be cut.
_OF_ALL: Final = frozenset({"content-type", "accept"})

# A status that may be due to one member, or to the size of the batch: its members are asked again in smaller groups.
# Any other says that the server or the model is away, or too busy, which more calls would not mend.
_DIVISIBLE_HTTP: Final = frozenset({400, 413, 422, 500})
_DIVISIBLE_GRPC: Final = frozenset(
    {
        GrpcStatus.INVALID_ARGUMENT,
        GrpcStatus.OUT_OF_RANGE,
        GrpcStatus.INTERNAL,
        GrpcStatus.UNKNOWN,
        GrpcStatus.RESOURCE_EXHAUSTED,
        GrpcStatus.FAILED_PRECONDITION,
    }
)


@dataclass(slots=True, eq=False, init=False)
class Part:
    """A call, or a piece of one, as it waits for its batch. `member` is None where it cannot be merged.

    `call` is what the member was read as: of a call over REST that shares batches with those over gRPC, one over gRPC.
    `mark`: headers of ours for the Envoy that it goes out by.
    """

    held: Held
    member: Member | None
    call: Call
    whole: bool
    mark: Headers

    def __init__(self, held: Held, member: Member | None, call: Call, whole: bool = True, mark: Headers = ()) -> None:
        self.held = held
        self.member = member
        self.call = call
        self.whole = whole
        self.mark = mark

    @property
    def crosses(self) -> bool:
        """Whether it is asked in another protocol than its own, if it is not alone."""
        return self.call.protocol is not self.held.call.protocol

    @property
    def is_cut_alone(self) -> bool:
        """Whether its reply has to be cut even if nobody else's rows are in it."""
        return not self.whole and (self.crosses or (self.member is not None and bool(self.member.trims)))


def single_request(part: Part, timeout: float, trace: TraceContext | None = None) -> Request:
    """The call itself, with all its headers; `timeout` in seconds. `trace` is the span above it, if any."""
    held = part.held if trace is None else replace(part.held, trace=trace)
    return _request(held, sent_on(held, _NOT_SENT_ON) + part.mark, _body(held), timeout)


def batch_request(
    parts: Sequence[Part], rows: int, key_headers: Sequence[str], timeout: float, trace: TraceContext | None = None
) -> Request:
    """One request for the rows of all parts, filled up to `rows` with copies of the last one; see `single_request`.

    Of their headers it has those that they have in common: what tells their form, and `key_headers`.
    """
    # One that is in its own protocol has the headers of that.
    first = next((part for part in parts if not part.crosses), parts[0])
    held = first.held
    codec = batches_of(first.call)
    members = [part.member for part in parts if part.member is not None]
    missing = rows - sum(member.rows for member in members)
    written = codec.merge(members + padding(codec, members[-1], missing))
    replaced = {key for key, _ in written.headers}
    of_all = key_headers if first.crosses else (*_OF_ALL, *key_headers)
    kept = [key for key in of_all if key in held.head.headers and key not in replaced]
    headers: Headers = tuple((key, held.head.headers[key].encode("latin-1")) for key in kept)
    headers += tuple((key, value.encode("latin-1")) for key, value in written.headers)
    headers += first.mark + (() if trace is None else trace.headers())
    request = _request(held, headers, (written.body,), timeout)
    return replace(request, path=INFER_PATH, headers=GRPC + headers, is_grpc=True) if first.crosses else request


def cut_reply(response: Response, parts: Sequence[Part], rows: int) -> list[Response]:
    """The reply to a batch as one for each part. Raises ReplyMismatch."""
    codec = batches_of(parts[0].call)
    members = [part.member for part in parts if part.member is not None]
    missing = rows - sum(member.rows for member in members)
    texts = {key: value.decode("latin-1") for key, value in response.headers}
    cut = codec.cut(texts, response.body, members + padding(codec, members[-1], missing))
    headers = {own: _headers(response, own) for own in {written.headers for written in cut}}  # the same one, as a rule
    return [
        _over_rest(response, written) if part.crosses else _replaced(response, written.body, headers[written.headers])
        for part, written in zip(parts, cut, strict=False)
    ]


def joined_reply(responses: Sequence[Response], held: Held, member: Member) -> Response:
    """The reply to a call that was asked in pieces. Raises ReplyMismatch."""
    texts = {key: value.decode("latin-1") for key, value in responses[0].headers}
    pieces = [
        Written(one.body, tuple((key, value.decode("latin-1")) for key, value in one.headers)) for one in responses
    ]
    written = batches_of(held.call).join(texts, pieces, member)
    return _replaced(responses[0], written.body, _headers(responses[0], written.headers))


def _over_rest(response: Response, written: Written) -> Response:
    """The reply to a call over REST, cut out of one over gRPC."""
    written = rest_reply(written.body)
    headers = tuple((key, value.encode("latin-1")) for key, value in written.headers)
    return Response(200, headers, written.body, None, node=response.node)


def is_divisible(response: Response) -> bool:
    """Whether a batch that got this error may be asked again in parts."""
    return response.status in _DIVISIBLE_HTTP or response.grpc_status in _DIVISIBLE_GRPC


def whole_body(held: Held) -> bytes:
    """The body as codecs read it: for gRPC the bare message."""
    if held.message is not None:
        return held.message
    return held.chunks[0] if len(held.chunks) == 1 else b"".join(held.chunks)


def _request(held: Held, headers: Headers, body: Sequence[bytes], timeout: float) -> Request:
    of, grpc = held.head.headers, held.call.protocol.is_grpc
    return Request(of[":path"], of[":method"], of.get(":authority", ""), headers, tuple(body), timeout, is_grpc=grpc)


def _body(held: Held) -> Sequence[bytes]:
    return (held.message,) if held.message is not None else held.chunks


def _replaced(response: Response, body: bytes, headers: Headers) -> Response:
    return Response(response.status, headers, body, response.trailers, response.grpc_status, response.node)


def _headers(response: Response, own: Sequence[tuple[str, str]]) -> Headers:
    """Those of the response, but for `own` in place of those of the same name."""
    names = {key for key, _ in own}
    kept = tuple(pair for pair in response.headers if pair[0] not in names)
    return kept + tuple((key, value.encode("latin-1")) for key, value in own)
