"""The loaders' channel, against a real gRPC server."""

import grpc.aio
import pytest
from tritonclient.grpc import service_pb2 as pb

from mesh.model_cache.loaders.channel import MAX_REPLY, RpcFailed, connect, method


async def test_an_answer_of_any_size_is_not_read() -> None:
    sizes = iter((MAX_REPLY - 1024, MAX_REPLY))

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return pb.ServerMetadataResponse(name="x" * next(sizes)).SerializeToString()

    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"M": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connect(f"127.0.0.1:{port}") as channel:
            ask = method(channel, "/s/M", pb.ServerMetadataResponse)
            assert len((await ask(pb.ServerMetadataRequest())).name) == MAX_REPLY - 1024
            with pytest.raises(RpcFailed, match="larger than max") as failed:
                await ask(pb.ServerMetadataRequest())
            assert failed.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        await server.stop(None)
