"""ProcessingResponse: the messages that we send to Envoy, serialized."""

from collections.abc import Iterable
from typing import Final

from ext_proc.contract import ANSWER_HEADER, CALL_HEADER, CLAIM_HEADER, NODE_HEADER, NODES_KEY, NODES_NAMESPACE
from ext_proc.processing.decision import HeaderMutation, Respond
from ext_proc.processing.request import BodyMode
from ext_proc.protos import ext_proc_pb2 as pb
from ext_proc.wire.protobuf.fields import len_field
from ext_proc.wire.reply import Reply
from mesh.bounded import ByteMemo
from mesh.node import node_behind

Headers = Iterable[tuple[str, bytes]]

_Lines = tuple[tuple[str, bytes], ...]
_OF_ONE_CALL: Final = frozenset({":path", CALL_HEADER, CLAIM_HEADER, ANSWER_HEADER})
_IMMEDIATE: Final = pb.ProcessingResponse.DESCRIPTOR.fields_by_name["immediate_response"].number
_IMMEDIATE_BODY: Final = pb.ImmediateResponse.DESCRIPTOR.fields_by_name["body"].number
_OVERWRITE: Final = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_SEND: Final = pb.ProcessingMode.SEND
_SKIP: Final = pb.ProcessingMode.SKIP


def continue_headers(
    nodes: tuple[str, ...] = (), remove: tuple[str, ...] = (), set_headers: tuple[tuple[str, str], ...] = ()
) -> bytes:
    """Lets the request go on: to `nodes` if any are named, without the headers `remove`, with `set_headers`.

    A node that is reached by the header is named by it, and Envoy chooses the route anew; so it does where a client's
    own such header is removed, by which it has chosen one.

    Memoised: a fleet has few distinct lists of nodes, and one for each model where the model is told to the node;
    building the message costs more than the look-up. What differs from call to call is not remembered: a path that is
    set anew, since it is the client's own with its query, and what a node is told of the call's time or its session.
    """
    if set_headers and _is_of_one_call(set_headers):
        return _continued((nodes, remove, set_headers))
    return _CONTINUED[nodes, remove, set_headers]


def _continued(reply: "_Continued") -> bytes:
    return _continue_headers(*reply).SerializeToString()


def continue_and_hear(
    nodes: tuple[str, ...], remove: tuple[str, ...], set_headers: tuple[tuple[str, str], ...], mode: BodyMode
) -> bytes:
    """As `continue_headers`, and the reply's headers are to be sent to us. `mode`: how this stream gets bodies now."""
    if _is_of_one_call(set_headers):
        return _continued_and_heard((nodes, remove, set_headers, mode))
    return _CONTINUED_AND_HEARD[nodes, remove, set_headers, mode]


def _continued_and_heard(reply: "_ContinuedAndHeard") -> bytes:
    nodes, remove, set_headers, mode = reply
    message = _continue_headers(nodes, remove, set_headers)
    # It replaces all that the configuration says: what is not named here would be switched off.
    streamed = mode is BodyMode.FULL_DUPLEX
    message.mode_override.CopyFrom(_mode(mode, replies=True, trailers=streamed, to_the_end=False))
    return message.SerializeToString()


def _continue_headers(
    nodes: tuple[str, ...], remove: tuple[str, ...], set_headers: tuple[tuple[str, str], ...]
) -> pb.ProcessingResponse:
    message = pb.ProcessingResponse()
    message.request_headers.SetInParent()
    _mutate(message.request_headers, remove, set_headers, nodes)
    _hand_over(message, nodes)
    return message


def _is_of_one_call(headers: Iterable[tuple[str, object]]) -> bool:
    return any(key in _OF_ONE_CALL for key, _ in headers)


def _parted(headers: _Lines) -> tuple[_Lines, _Lines]:
    """Those that many answers have in common, and those of one call.

    The second are a message of their own, with nothing else in it: protobuf takes two of them, one behind the other,
    for one that has the lines of both (protobuf.dev/programming-guides/encoding, "Last One Wins").
    """
    own = tuple([pair for pair in headers if pair[0] in _OF_ONE_CALL])
    return (tuple([pair for pair in headers if pair[0] not in _OF_ONE_CALL]), own) if own else (headers, own)


def continue_reply(change: HeaderMutation) -> bytes:
    """Lets a reply go on with other headers; there are few such changes, and they are the same for many replies."""
    return _CONTINUED_REPLY[change]


def _continued_reply(change: HeaderMutation) -> bytes:
    message = pb.ProcessingResponse()
    message.response_headers.SetInParent()
    _mutate(message.response_headers, change.remove, change.headers)
    return message.SerializeToString()


def _mutate(
    message: pb.HeadersResponse | pb.BodyResponse,
    remove: tuple[str, ...],
    set_headers: tuple[tuple[str, str], ...],
    nodes: tuple[str, ...] = (),
) -> None:
    by_header = node_behind(nodes[0]) if nodes else None
    if by_header is not None or NODE_HEADER in remove:
        message.response.clear_route_cache = True
    if by_header is not None:
        set_headers += ((NODE_HEADER, by_header),)
        remove = tuple([name for name in remove if name != NODE_HEADER])
    if remove:
        message.response.header_mutation.remove_headers.extend(remove)
    if set_headers:
        options = _options((key, value.encode("latin-1")) for key, value in set_headers)
        message.response.header_mutation.set_headers.extend(options)


def continue_buffered(nodes: tuple[str, ...] = (), set_headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Lets a request go on whose body was buffered; its headers were answered before, and can still be set."""
    return _continued_buffered((nodes, set_headers)) if set_headers else _CONTINUED_BUFFERED[nodes, set_headers]


def _continued_buffered(reply: tuple[tuple[str, ...], tuple[tuple[str, str], ...]]) -> bytes:
    nodes, set_headers = reply
    message = pb.ProcessingResponse()
    message.request_body.SetInParent()
    _mutate(message.request_body, (), set_headers, nodes)
    _hand_over(message, nodes)
    return message.SerializeToString()


def _hand_over(message: pb.ProcessingResponse, nodes: tuple[str, ...]) -> None:
    """Names the nodes where the override_host load-balancing policy looks for them; see ext_proc.envoy_config."""
    if nodes:
        message.dynamic_metadata[NODES_NAMESPACE] = {NODES_KEY: ",".join(nodes)}


_Continued = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]
_ContinuedAndHeard = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...], BodyMode]
_CONTINUED: Final = ByteMemo(_continued)
_CONTINUED_AND_HEARD: Final = ByteMemo(_continued_and_heard)
_CONTINUED_REPLY: Final = ByteMemo(_continued_reply)
_CONTINUED_BUFFERED: Final = ByteMemo(_continued_buffered)


def _mode(body: BodyMode, *, replies: bool, trailers: bool, to_the_end: bool) -> pb.ProcessingMode:
    return pb.ProcessingMode(
        request_header_mode=_SEND,
        response_header_mode=_SEND if replies else _SKIP,
        request_body_mode=pb.ProcessingMode.BodySendMode.Name(body.value),
        request_trailer_mode=_SEND if trailers else _SKIP,
        response_trailer_mode=_SEND if to_the_end else _SKIP,
    )


def _override(*, replies: bool) -> bytes:
    mode = _mode(BodyMode.FULL_DUPLEX, replies=replies, trailers=True, to_the_end=replies)
    return pb.ProcessingResponse(mode_override=mode).SerializeToString()


# Sent as the first reply to request headers (Envoy >= 1.40): everything that follows of the request is streamed to us.
OVERRIDE_TO_FULL_DUPLEX: Final = _override(replies=False)
# The same, and the stream lasts until the reply has ended: an override replaces what the configuration says of replies.
OVERRIDE_TO_THE_END: Final = _override(replies=True)
CONTINUE_BODY: Final = pb.ProcessingResponse(request_body=pb.BodyResponse()).SerializeToString()
CONTINUE_TRAILERS: Final = pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString()
CONTINUE_RESPONSE_HEADERS: Final = pb.ProcessingResponse(response_headers=pb.HeadersResponse()).SerializeToString()
CONTINUE_RESPONSE_TRAILERS: Final = pb.ProcessingResponse(response_trailers=pb.TrailersResponse()).SerializeToString()


def stream_body(body: bytes, end_of_stream: bool) -> bytes:
    """Sends one chunk of the request body on (FULL_DUPLEX_STREAMED)."""
    message = pb.ProcessingResponse()
    chunk = message.request_body.response.body_mutation.streamed_response
    chunk.body = body
    chunk.end_of_stream = end_of_stream
    return message.SerializeToString()


def immediate(reply: Reply) -> bytes:
    """Answers the call ourselves; Envoy adds content-length, and turns it into trailers-only for gRPC."""
    headers = tuple((key, value.encode("latin-1")) for key, value in reply.headers)
    return _immediate(reply.status, headers, reply.body, reply.grpc_status)


def answer(reply: Respond) -> list[bytes]:
    """The messages that answer a call: streamed for gRPC, whose trailers only a streamed answer carries."""
    if reply.trailers is None:
        return [_immediate(reply.status, reply.headers, reply.body, None)]
    # Calls that share a batch have their reply's headers in common.
    common, own = _parted(reply.headers)
    head = _STREAMED_HEADS[reply.status, common]
    if own:
        head += _streamed_head((0, own))
    tail = _STREAMED_TAILS[reply.trailers]
    if not reply.body:
        return [head, tail]
    message = pb.ProcessingResponse()
    message.streamed_immediate_response.body_response.body = reply.body
    return [head, message.SerializeToString(), tail]


def _immediate(status: int, headers: _Lines, body: bytes, grpc_status: int | None) -> bytes:
    head = _LAST_HEAD.of(status, headers, grpc_status)
    return len_field(_IMMEDIATE, head + len_field(_IMMEDIATE_BODY, body))


def _immediate_head(reply: tuple[int, _Lines, int | None]) -> bytes:
    """An ImmediateResponse without its body."""
    status, headers, grpc_status = reply
    response = pb.ImmediateResponse()
    if status:
        response.status.code = status
    response.headers.set_headers.extend(_options(headers))
    if grpc_status is not None:
        response.grpc_status.status = grpc_status
    return response.SerializeToString()


def _streamed_head(reply: tuple[int, _Lines]) -> bytes:
    status, headers = reply
    message = pb.ProcessingResponse()
    head = message.streamed_immediate_response.headers_response
    if status:
        head.headers.headers.append(pb.HeaderValue(key=":status", raw_value=b"%d" % status))
    head.headers.headers.extend(_values(_joined(headers)))
    return message.SerializeToString()


def _streamed_tail(trailers: _Lines) -> bytes:
    message = pb.ProcessingResponse()
    message.streamed_immediate_response.trailers_response.headers.extend(_values(_joined(trailers)))
    return message.SerializeToString()


class _LastHead:
    """The ImmediateResponse, but for its body, that was written last: calls that shared a batch share their headers,
    too, and are answered one after the other.
    """

    __slots__ = ("_grpc_status", "_head", "_headers", "_status")

    def __init__(self) -> None:
        self._status = -1
        self._headers: _Lines = ()
        self._grpc_status: int | None = None
        self._head = b""

    def of(self, status: int, headers: _Lines, grpc_status: int | None) -> bytes:
        """What is written for these."""
        if headers is not self._headers or status != self._status or grpc_status != self._grpc_status:
            common, own = _parted(headers)
            head = _IMMEDIATE_HEADS[status, common, grpc_status]
            self._head = head + _immediate_head((0, own, None)) if own else head
            self._status, self._headers, self._grpc_status = status, headers, grpc_status
        return self._head


_LAST_HEAD: Final = _LastHead()
_IMMEDIATE_HEADS: Final = ByteMemo(_immediate_head)
_STREAMED_HEADS: Final = ByteMemo(_streamed_head)
_STREAMED_TAILS: Final = ByteMemo(_streamed_tail)


def _joined(headers: Headers) -> Headers:
    """One line for each name: of several, Envoy keeps only the last in a streamed answer (measured: 1.37 to 1.40).

    Text is joined, which means the same (RFC 9110, 5.3); binary values are not, since not every gRPC client parts them.
    """
    lines: dict[str, bytes] = {}
    for key, value in headers:
        known = None if key.endswith("-bin") else lines.get(key)
        lines[key] = value if known is None else known + b", " + value
    return lines.items()


def _values(headers: Headers) -> Iterable[pb.HeaderValue]:
    return (pb.HeaderValue(key=key, raw_value=value) for key, value in headers)


def _options(headers: Headers) -> Iterable[pb.HeaderValueOption]:
    # Further lines of one name (set-cookie) stay lines of their own. Said by the deprecated `append`: Envoy's filter
    # reads that, and not `append_action`, where it applies these to an answer (measured on 1.36 to 1.40), so that
    # without it the last line would overwrite the others.
    told: set[str] = set()
    for value in _values(headers):
        if value.key in told:
            yield pb.HeaderValueOption(header=value, append={"value": True})
        else:
            yield pb.HeaderValueOption(header=value, append_action=_OVERWRITE)
            told.add(value.key)
