"""Outputs of a reply as arrays, and a reply with other outputs, in all four protocols."""

from collections.abc import Mapping
from typing import NamedTuple

from ext_proc.errors import CallError
from ext_proc.wire.call import Call, Verb
from ext_proc.wire.codecs import CODECS
from ext_proc.wire.framing import inflate
from ext_proc.wire.names import quoted
from ext_proc.wire.output_arrays import Array, OutputError, Outputs

_VERBS = (Verb.PREDICT, Verb.INFER)
_REMOVED = ("content-length", "content-encoding")
"""From a REST reply whose body is written anew. A gRPC body tells its length and packing itself."""


class Rewritten(NamedTuple):
    """A reply with other outputs: its body, the headers to set on it, and those to take off."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]


def decode_outputs(call: Call, headers: Mapping[str, str], body: bytes, limit: int) -> dict[str, Array]:
    """Name to array, of every output of the reply to `call`; arrays may be read-only.

    `headers` are those of the reply, lower-case; `body` is for gRPC the bare message (unpacked, without its frame),
    for REST the body as it came, at most `limit` bytes of it once it is unpacked. Raises OutputError, which names the
    output, for anything but floats and integers.
    """
    _check(call)
    return CODECS[call.protocol].decode_outputs(headers, _plain(call, headers, body, limit))


def encode_outputs(call: Call, headers: Mapping[str, str], body: bytes, outputs: Outputs, limit: int) -> Rewritten:
    """The reply with these outputs in place of its own of the same names; all else in it is kept.

    Shape and type of an output become those of its array; a gRPC body is again the bare message. Arguments and errors
    as in `decode_outputs`.
    """
    _check(call)
    plain = _plain(call, headers, body, limit)
    rewritten, told = CODECS[call.protocol].encode_outputs(headers, plain, outputs)
    return Rewritten(rewritten, told, () if call.protocol.is_grpc else _REMOVED)


def _check(call: Call) -> None:
    if call.verb not in _VERBS:
        raise OutputError(f"The reply to {call.verb} has no outputs that can be mixed; that to predict and infer has.")


def _plain(call: Call, headers: Mapping[str, str], body: bytes, limit: int) -> bytes:
    encoding = headers.get("content-encoding", "identity")
    if call.protocol.is_grpc or encoding == "identity":
        return body
    try:
        return inflate(body, encoding, limit)
    except CallError:
        raise OutputError(f"The reply cannot be unpacked from content-encoding {quoted(encoding)}.") from None
