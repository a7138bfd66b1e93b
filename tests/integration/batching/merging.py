"""A server of one gRPC method that waits for several calls, and answers them by one call to another server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from ext_proc.wire.batch import Member
from ext_proc.wire.call import Call
from ext_proc.wire.codecs import batches_of


class Merging:
    """Answers `size` calls at a time; `method` is the path that is served, and asked at `behind`."""

    def __init__(self, behind: str, call: Call, method: str, size: int) -> None:
        self._behind = behind
        self._call = call
        self._method = method
        self._size = size
        self._waiting: list[tuple[Member, asyncio.Future[bytes]]] = []
        self.rows: list[int] = []

    async def answer(self, body: bytes, context: Any) -> bytes:
        codec = batches_of(self._call)
        member = codec.read(self._call, {}, body)
        assert isinstance(member, Member), member
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, future))
        if len(self._waiting) == self._size:
            members = [each for each, _ in self._waiting]
            assert len({each.key for each in members}) == 1
            self.rows = sorted(each.rows for each in members)
            async with grpc.aio.insecure_channel(self._behind) as channel:
                reply = await channel.unary_unary(self._method)(codec.merge(members).body)
            for part, (_, waiting) in zip(codec.cut({}, reply, members), self._waiting, strict=True):
                waiting.set_result(part.body)
        return await future


@asynccontextmanager
async def merging(behind: str, call: Call, method: str, size: int) -> AsyncIterator[tuple[str, Merging]]:
    """Its target, and the server."""
    server, merger = grpc.aio.server(), Merging(behind, call, method, size)
    service, name = method.removeprefix("/").split("/")
    handler = grpc.unary_unary_rpc_method_handler(merger.answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", merger
    finally:
        await server.stop(None)
