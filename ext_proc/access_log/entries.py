"""A message of Envoy's access log, read: the plain calls that have ended, what is counted of each, and those that run.

Most of what an entry says is the same for many calls (path, node, metadata) and is remembered by its bytes, so that an
entry costs some microseconds.
"""

from typing import NamedTuple

from google.protobuf.message import DecodeError

from ext_proc.contract import (
    ACCESS_LOG_NAME,
    KNOWN_KEY,
    KNOWN_NAMESPACE,
    MODEL_HEADER,
    MODEL_KEY,
    NODES_KEY,
    NODES_NAMESPACE,
    ONE_IN,
    ONE_IN_KEY,
)
from ext_proc.errors import TbmsError
from ext_proc.grpc_status import GrpcStatus
from ext_proc.protos import access_log_pb2 as pb
from ext_proc.upstream.verdict import answered, is_lacking
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.naming import is_method, name_logged
from mesh.address import Address
from mesh.bounded import ByteMemo
from mesh.digits import number
from mesh.node import node_behind

MAX_MESSAGE = 256 * 1024
"""Bytes of a message: Envoy sends what fills its buffer, 16 KiB, and one entry more, of at most 96 KiB of headers."""
MAX_ENTRIES = 1024
"""Entries of a message: those of an Envoy have some hundred bytes each, so that its buffer holds a tenth of this."""

_NAME = ACCESS_LOG_NAME.encode()
_MODEL_HEADER = MODEL_HEADER.encode()
_NANO = 1e-9
_END, _RUNS = pb.DOWNSTREAM_END, pb.DOWNSTREAM_PERIODIC
_IN_HEADER = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "")
"""Stands for the calls of a gRPC method, whose path names no model."""


class LogError(TbmsError):
    """A message is not one of the log of calls; the text says why."""


class EndedCall(NamedTuple):
    """A plain call that has ended. `call` is what it asked for, None where its headers do not say.

    `node` is the `ip:port` that was asked last, "" where none was. `known`: the map of known calls named it, so that
    the server has heard nothing of the call before. `seconds` is how long the node was busy with the call: from the
    first byte to it until the last one of its reply, or until the caller went away. `answer_seconds` counts from the
    whole request on, and is None unless the call succeeded. `lacking`: it failed as a call does where the model, or its
    server, is not there. The call is one of `stands_for` that have ended so. `far` is the id of the node of another
    zone that the call was sent to, "" for others, and `answered` whether that one was there, as far as it is clear.
    """

    call: Call | None
    node: str
    known: bool
    seconds: float
    answer_seconds: float | None
    lacking: bool = False
    stands_for: int = 1
    far: str = ""
    answered: bool | None = None


class Logged(NamedTuple):
    """What a message tells of: calls that have ended, and known calls that run for longer than most."""

    ended: list[EndedCall]
    running: list[Call]


def check_log(message: pb.StreamAccessLogsMessage) -> None:
    """Raises LogError unless the first message of a stream says that the stream is a log of calls."""
    name = message.identifier.log_name
    if name != _NAME:
        raise LogError(f"the log has the name {name[:64]!r}, not {ACCESS_LOG_NAME!r}")


def read_message(data: bytes) -> pb.StreamAccessLogsMessage:
    """The message in `data`. Raises LogError for what is none, and for one that is too large."""
    if len(data) > MAX_MESSAGE:
        raise LogError(f"a message of {len(data)} bytes is over the limit of {MAX_MESSAGE} bytes")
    try:
        message = pb.StreamAccessLogsMessage.FromString(data)
    except DecodeError:
        raise LogError("a message is not a StreamAccessLogsMessage") from None
    count = len(message.http_logs.log_entry)
    if count > MAX_ENTRIES:
        raise LogError(f"a message of {count} entries is over the limit of {MAX_ENTRIES}")
    return message


def read_calls(message: pb.StreamAccessLogsMessage) -> Logged:
    """The calls of a message, of those to which the server or the map had named a node."""
    ended: list[EndedCall] = []
    running: list[Call] = []
    for entry in message.http_logs.log_entry:
        common = entry.common_properties
        known, named, count, far = _MARKS[common.metadata]
        kind = common.access_log_type
        if known is None or kind not in (_END, _RUNS):
            continue
        request, response = entry.request, entry.response
        path = request.path
        call = _BY_PATH[path]
        if is_grpc := call is _IN_HEADER:
            call = _call_of_header(path, request) if named is None else name_logged(path.decode("latin-1"), named)
        if kind == _RUNS:
            if known and call is not None:
                running.append(call)
            continue
        status = response.response_code.value
        first = common.time_to_first_upstream_tx_byte
        last = common.time_to_last_upstream_rx_byte if status else common.duration
        began = first.seconds + first.nanos * _NANO
        end = last.seconds + last.nanos * _NANO
        answer = None
        grpc_status = _grpc_status(response, missing=GrpcStatus.UNKNOWN) if is_grpc else GrpcStatus.OK
        if status == 200 and grpc_status == GrpcStatus.OK:
            whole = common.time_to_last_rx_byte
            answer = max(0.0, end - max(began, whole.seconds + whole.nanos * _NANO))
        busy = max(0.0, end - began) if began else 0.0
        if answer is None and status:
            count = 1  # of those that the node has failed all are told
        lacking = is_lacking(status, grpc_status)
        there = answered(status, _grpc_status(response)) if far else None
        node = _ADDRESSES[common.upstream_remote_address]
        ended.append(EndedCall(call, node, known, busy, answer, lacking, count, far, there))
    return Logged(ended, running)


def _by_path(path: bytes) -> Call | None:
    text = path.decode("latin-1")
    return _IN_HEADER if is_method(text) else name_logged(text, None)


def _call_of_header(path: bytes, request: pb.HTTPRequestProperties) -> Call | None:
    for header in request.request_headers:
        if header.key == _MODEL_HEADER:
            return name_logged(path.decode("latin-1"), header.value.decode("latin-1"))
    return None


def _grpc_status(response: pb.HTTPResponseProperties, missing: int = GrpcStatus.OK) -> int:
    """How a gRPC call has ended; it is in the trailers, or in the headers where there are none."""
    for header in (*response.response_trailers, *response.response_headers):
        if header.key == b"grpc-status":
            value = number(header.value.decode("latin-1"), 3)
            return GrpcStatus.UNKNOWN if value is None else value
    return missing


def _address(data: bytes) -> str:
    try:
        found = pb.Address.FromString(data).socket_address
    except DecodeError:
        return ""
    return str(Address(found.address, found.port_value)) if found.port_value else ""


def _marks(data: bytes) -> tuple[bool | None, str | None, int, str]:
    """What a call's metadata say: whether the map named its node, the model that the map has named, for how many calls
    that have ended well it stands, and the id of the far node that the server has named, or "".

    None where nobody named a node. Where map and server both did, which is not to be, the server has counted it.
    """
    try:
        metadata = pb.Metadata.FromString(data).filter_metadata
    except DecodeError:
        return None, None, 1, ""
    known = metadata[KNOWN_NAMESPACE].fields if KNOWN_NAMESPACE in metadata else {}
    model = known[MODEL_KEY].string_value or None if MODEL_KEY in known else None
    if NODES_NAMESPACE in metadata and NODES_KEY in (routed := metadata[NODES_NAMESPACE].fields):
        return False, model, 1, node_behind(routed[NODES_KEY].string_value) or ""
    if KNOWN_KEY not in known:
        return None, model, 1, ""
    return True, model, ONE_IN if ONE_IN_KEY in known else 1, ""


_BY_PATH = ByteMemo(_by_path)
_ADDRESSES = ByteMemo(_address)
_MARKS = ByteMemo(_marks)
