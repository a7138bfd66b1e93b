"""A candidate's reply as the answer that a client gets."""

from ext_proc.broker.effects import Answer, Why
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.http2.client_stream import HttpResponse
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held
from ext_proc.processing.request import BodyMode, Head
from ext_proc.processing.response import answer
from ext_proc.racing.answer import compose
from ext_proc.upstream.client import UpstreamError, grpc_response, rest_response
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

NAMES = (
    "grpc-status",
    "grpc-message",
    "grpc-encoding",
    "content-type",
    "x-tbms-upstream",
    "tbms-answer",
    "x-a",
    "x-a-bin",
)
PLAN = Plan("m", (Candidate("m"),), 50.0)
HEAD = Head({}, False, BodyMode.NONE)
LIMIT = 1 << 16


def run(data: bytes) -> None:
    reader = Reader(data)
    protocol = reader.pick((InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_REST))
    reply = HttpResponse(200 + reader.number(399), _headers(reader), b"", _headers(reader))
    reply = HttpResponse(reply.status, reply.headers, reader.rest(), reply.trailers)
    try:
        response = grpc_response(reply, LIMIT) if protocol.is_grpc else rest_response(reply)
    except UpstreamError:
        return
    outcome = Answer(0, response, Why.PRIMARY, (0,), False, 1.0, 2.0)
    answer(compose(Held(HEAD, Call(protocol, Verb.INFER, "m"), ()), PLAN, outcome))


def _headers(reader: Reader) -> Headers:
    return tuple((reader.pick(NAMES), reader.piece()) for _ in range(reader.number(6)))


TARGET = Target(
    run,
    (
        b"\0\0\0\1\0\1\0010" + b"\0\0\0\0\5hello",
        b"\1\0\0\2\6\1a\6\1b\0body",
        b"\0\0\0\1\2\4gzip\1\0\0010\1\0\0\0\4abcd",
    ),
    (b"\0\0010", b"\0\00213", b"\2\4gzip", b"\4\x0d10.0.0.3:8500"),
)
