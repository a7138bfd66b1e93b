"""Which sequence a request belongs to, in the protocols that have sequences: those of V2."""

from collections.abc import Callable, Mapping

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol
from ext_proc.wire.framing import inflate
from ext_proc.wire.names import quoted
from ext_proc.wire.v2 import sequence
from ext_proc.wire.v2.rest_outputs import HEADER
from ext_proc.wire.v2.sequence import SequencePart as SequencePart
from mesh.digits import number


def read_sequence(call: Call, headers: Mapping[str, str], body: bytes, limit: int) -> SequencePart | None:
    """The sequence that the request names; None where it names none, or is not to be understood.

    `headers` are the request's, lower-case; `body` is for gRPC the bare message, for REST the body as it came, at most
    `limit` bytes of it once it is unpacked. Raises CallError: TOO_LARGE, INVALID.
    """
    reader = _READERS.get(call.protocol)
    return None if reader is None else reader(headers, body, limit)


def _of_message(headers: Mapping[str, str], body: bytes, limit: int) -> SequencePart | None:
    return sequence.of_message(body)


def _of_rest(headers: Mapping[str, str], body: bytes, limit: int) -> SequencePart | None:
    """With the binary tensor extension the JSON object is the first part of the body, as long as a header says."""
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        if encoding not in ("gzip", "deflate"):
            raise CallError(Reason.UNSUPPORTED, f"The encoding {quoted(encoding)} is not supported.")
        body = inflate(body, encoding, limit)
    length = headers.get(HEADER)
    size = len(body) if length is None else number(length, 18)
    return None if size is None or size > len(body) else sequence.of_object(body[:size])


_READERS: Mapping[InferenceProtocol, Callable[[Mapping[str, str], bytes, int], SequencePart | None]] = {
    InferenceProtocol.V2_GRPC: _of_message,
    InferenceProtocol.V2_REST: _of_rest,
}
