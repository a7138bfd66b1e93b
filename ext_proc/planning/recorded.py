"""A recorded request: its rows one by one, and requests of any number of rows made of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from urllib.parse import quote

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import Message

from ext_proc.errors import CallError, TbmsError
from ext_proc.planning.exactness import Answer
from ext_proc.wire.batch import Alone, BatchCodec, Member, Written
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import CODECS, GRPC_CODECS, batches_of
from ext_proc.wire.output_arrays import OutputError
from ext_proc.wire.v2.rest_outputs import HEADER

_VERBS = {
    InferenceProtocol.TFS_GRPC: Verb.PREDICT,
    InferenceProtocol.TFS_REST: Verb.PREDICT,
    InferenceProtocol.V2_GRPC: Verb.INFER,
    InferenceProtocol.V2_REST: Verb.INFER,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """Rows of recorded requests for one model. `path` is that of the call, `headers` are those of any request."""

    call: Call
    path: str
    headers: Mapping[str, str]
    rows: tuple[Member, ...]

    @property
    def distinct(self) -> int:
        """How many of the rows differ."""
        return len({tuple(_bytes(column) for column in row.columns) for row in self.rows})

    def members(self, rows: int, first: int = 0) -> list[Member]:
        """So many rows, from the row `first` on, again and again."""
        return [self.rows[(first + place) % len(self.rows)] for place in range(rows)]

    def request(self, members: Sequence[Member]) -> Written:
        """The request for these rows, and its headers."""
        written = self._codec.merge(members)
        return Written(written.body, tuple({**self.headers, **dict(written.headers)}.items()))

    def answers(self, headers: Mapping[str, str], body: bytes, members: Sequence[Member]) -> list[Answer]:
        """What each row got in the reply to such a request. Raises ReplyMismatch."""
        cut = self._codec.cut(headers, body, members)
        return [self._answer({**headers, **dict(each.headers)}, each.body) for each in cut]

    @property
    def _codec(self) -> BatchCodec:
        return batches_of(self.call)

    def _answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            return Answer(CODECS[self.call.protocol].decode_outputs(headers, body), body)
        except OutputError:
            return Answer(None, body)


def read_recorded(
    protocol: InferenceProtocol, model: str, version: str | None, files: Mapping[str, bytes], most_rows: int
) -> Recorded:
    """The rows of these request bodies, by name; they are all for one signature. `most_rows` are kept.

    A body is what a client of that protocol sends, without the framing of gRPC; a gRPC message may also be written as
    JSON (protobuf's mapping, as grpcurl takes it). Whatever model it names, `model` is asked. Raises TbmsError.
    """
    call = Call(protocol, _VERBS[protocol], model, version)
    found = [_member(call, body, name) for name, body in files.items()]
    first, headers = found[0]
    for name, (member, _) in zip(files, found, strict=True):
        if member.key != first.key:
            raise TbmsError(f"{name}: its tensors have other names, types or shapes than those of {next(iter(files))}")
    codec = batches_of(call)
    rows = chain.from_iterable(codec.split(member, [1] * member.rows) for member, _ in found)
    return Recorded(call, _path(call), headers, tuple(row for row, _ in zip(rows, range(most_rows), strict=False)))


def _member(call: Call, body: bytes, name: str) -> tuple[Member, dict[str, str]]:
    try:
        headers, body = _grpc(call, body, name) if call.protocol.is_grpc else _rest(call, body)
        member = batches_of(call).read(call, headers, body)
    except CallError as error:
        raise TbmsError(f"{name}: {error.message}") from None
    if isinstance(member, Alone):
        raise TbmsError(f"{name}: its rows cannot be told apart ({member.reason}), as a {call.protocol} request")
    return member, headers


def _rest(call: Call, body: bytes) -> tuple[dict[str, str], bytes]:
    """V2's binary extension is JSON with the tensors' bytes behind it."""
    headers = {"content-type": "application/json"}
    if call.protocol is InferenceProtocol.V2_REST and (head := _json_length(body)) < len(body):
        headers = {"content-type": "application/octet-stream", HEADER: str(head)}
    return headers, body


def _json_length(body: bytes) -> int:
    """Bytes of the JSON object that a body begins with; all, if there is nothing behind it but blanks."""
    text = body.decode("utf-8", "surrogateescape")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return len(body)
    return len(body) if not text[end:].strip() else len(text[:end].encode("utf-8", "surrogateescape"))


def _grpc(call: Call, body: bytes, name: str) -> tuple[dict[str, str], bytes]:
    if body.startswith(b"{"):  # which begins no message of either kind
        body = _from_json(call.protocol, body, name)
    renamed = GRPC_CODECS[call.protocol].rename_message(call.verb, body, call.model, call.version, None)
    return {}, b"".join(renamed)


def _from_json(protocol: InferenceProtocol, text: bytes, name: str) -> bytes:
    try:
        return Parse(text, _message(protocol)).SerializeToString()
    except (ParseError, UnicodeDecodeError) as error:
        raise TbmsError(f"{name}: the JSON is no request of {protocol}: {error}") from None


def _message(protocol: InferenceProtocol) -> Message:
    if protocol is InferenceProtocol.V2_GRPC:
        from tritonclient.grpc import service_pb2

        message: Message = service_pb2.ModelInferRequest()
        return message
    from mesh.protos import tfs_pb2

    return tfs_pb2.PredictRequest()


def _path(call: Call) -> str:
    codec = GRPC_CODECS.get(call.protocol)
    if codec is not None:
        return next(path for path, method in codec.methods.items() if method.verb is call.verb)
    model = quote(call.model, safe="")
    version = "" if call.version is None else f"/versions/{call.version}"
    if call.protocol is InferenceProtocol.TFS_REST:
        return f"/v1/models/{model}{version}:predict"
    return f"/v2/models/{model}{version}/infer"


def _bytes(column: str | bytes | memoryview) -> str | bytes:
    return bytes(column) if isinstance(column, memoryview) else column
