"""Outputs of a reply as arrays, and a reply with other outputs, in all four protocols."""

from collections.abc import Mapping
from typing import NamedTuple

from ext_proc.errors import CallError
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.framing import inflate
from ext_proc.wire.names import quoted
from ext_proc.wire.outputs import tfs_grpc, tfs_rest, v2_grpc, v2_rest
from ext_proc.wire.tensor import Array, Outputs, TensorError

_VERBS = (Verb.PREDICT, Verb.INFER)


class Rewritten(NamedTuple):
    """A reply with other outputs: its body, the headers to set on it, and those to take off."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]


def decode_outputs(call: Call, headers: Mapping[str, str], body: bytes, limit: int) -> dict[str, Array]:
    """Name to array, of every output of the reply to `call`; arrays may be read-only.

    `headers` are those of the reply, lower-case; `body` is for gRPC the bare message (unpacked, without its frame),
    for REST the body as it came, at most `limit` bytes of it once it is unpacked. Raises TensorError, which names the
    output, for anything but floats and integers.
    """
    _check(call)
    if call.protocol is InferenceProtocol.TFS_GRPC:
        return tfs_grpc.decode(body)
    if call.protocol is InferenceProtocol.V2_GRPC:
        return v2_grpc.decode(body)
    body = _plain(headers, body, limit)
    if call.protocol is InferenceProtocol.TFS_REST:
        return tfs_rest.decode(body)
    return v2_rest.decode(body, headers.get(v2_rest.HEADER))


def encode_outputs(call: Call, headers: Mapping[str, str], body: bytes, outputs: Outputs, limit: int) -> Rewritten:
    """The reply with these outputs in place of its own of the same names; all else in it is kept.

    Shape and type of an output become those of its array; a gRPC body is again the bare message. Arguments and errors
    as in `decode_outputs`.
    """
    _check(call)
    if call.protocol is InferenceProtocol.TFS_GRPC:
        return Rewritten(tfs_grpc.encode(body, outputs), (), ())
    if call.protocol is InferenceProtocol.V2_GRPC:
        return Rewritten(v2_grpc.encode(body, outputs), (), ())
    body = _plain(headers, body, limit)
    removed = ("content-length", "content-encoding")
    if call.protocol is InferenceProtocol.TFS_REST:
        return Rewritten(tfs_rest.encode(body, outputs), (), removed)
    body, size = v2_rest.encode(body, headers.get(v2_rest.HEADER), outputs)
    return Rewritten(body, () if size is None else ((v2_rest.HEADER, size),), removed)


def _check(call: Call) -> None:
    if call.verb not in _VERBS:
        raise TensorError(f"The reply to {call.verb} has no outputs that can be mixed; that to predict and infer has.")


def _plain(headers: Mapping[str, str], body: bytes, limit: int) -> bytes:
    encoding = headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    try:
        return inflate(body, encoding, limit)
    except CallError:
        raise TensorError(f"The reply cannot be unpacked from content-encoding {quoted(encoding)}.") from None
