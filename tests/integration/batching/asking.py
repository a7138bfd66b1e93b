"""Asks a model server for bytes, and merges calls in between: each caller must get what it would get alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import grpc
from yarl import URL as Url

from ext_proc.wire.batch import Member, Written
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import CODECS

METHODS = {
    InferenceProtocol.V2_GRPC: "/inference.GRPCInferenceService/ModelInfer",
    InferenceProtocol.TFS_GRPC: "/tensorflow.serving.PredictionService/Predict",
}
PATHS = {
    InferenceProtocol.V2_REST: "/v2/models/{model}/infer",
    InferenceProtocol.TFS_REST: "/v1/models/{model}:predict",
}


@dataclass(frozen=True)
class Request:
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


async def ask(grpc_target: str, rest_target: str, call: Call, request: Request) -> Written:
    """The reply, byte for byte; it has to be a success."""
    if call.protocol.is_grpc:
        async with grpc.aio.insecure_channel(grpc_target) as channel:
            return Written(await channel.unary_unary(METHODS[call.protocol])(request.body))
    path = PATHS[call.protocol].format(model=call.model)
    url = Url(f"http://{rest_target}{path}", encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=request.body, headers=request.headers) as reply,
    ):
        body = await reply.read()
        assert reply.status == 200, body
        told = {name.lower(): value for name, value in reply.headers.items()}
        kept = ("inference-header-content-length", "content-type")
        return Written(body, tuple((name, told[name]) for name in kept if name in told))


def call_of(protocol: InferenceProtocol, model: str) -> Call:
    verb = Verb.INFER if protocol in (InferenceProtocol.V2_GRPC, InferenceProtocol.V2_REST) else Verb.PREDICT
    return Call(protocol, verb, model)


async def check(grpc_target: str, rest_target: str, call: Call, requests: list[Request]) -> None:
    """Together, and in pieces of one row that are put together again, the calls get what each gets alone."""
    codec = CODECS[call.protocol].batches
    members = [codec.read(call, request.headers, request.body) for request in requests]
    assert all(isinstance(member, Member) for member in members), members
    assert len({member.key for member in members if isinstance(member, Member)}) == 1
    known = [member for member in members if isinstance(member, Member)]
    alone = [await ask(grpc_target, rest_target, call, request) for request in requests]

    async def together(batch: list[Member]) -> list[Written]:
        merged = codec.merge(batch)
        request = Request(merged.body, {**requests[0].headers, **dict(merged.headers)})
        reply = await ask(grpc_target, rest_target, call, request)
        parts = codec.cut(dict(reply.headers), reply.body, batch)
        return [Written(part.body, tuple({**dict(reply.headers), **dict(part.headers)}.items())) for part in parts]

    assert await together(known) == alone
    pieces = [codec.split(member, [1] * member.rows) for member in known]
    replies = iter(await together([piece for parts in pieces for piece in parts]))
    for member, parts, reply in zip(known, pieces, alone, strict=True):
        joined = codec.join(dict(reply.headers), [next(replies) for _ in parts], member)
        assert joined.body == reply.body
        assert joined.headers == tuple(pair for pair in reply.headers if pair[0] != "content-type")
