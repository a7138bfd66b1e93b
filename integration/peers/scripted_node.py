"""An upstream that takes as long as each call says, and counts the time that it worked.

`python -m integration.peers.scripted_node`. A call carries the milliseconds in a header that this node looks at and
others do not (`inf`: never answered). It speaks gRPC, any method, and REST, any path but its own two: `/ready`, and
`/work`, what it has done so far. A call that is given up by its caller counts until then.
"""

import argparse
import asyncio
import gc
import math
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import uvloop
from aiohttp import web

from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from mesh.node import Node
from mesh.protos import tfs_pb2


@dataclass
class Work:
    """Calls that ended and those that were given up before, the time spent on them (ms), and calls in work now."""

    calls: int = 0
    given_up: int = 0
    ms: float = 0.0
    running: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts what happens in the block as one call."""
        began = time.perf_counter()
        self.calls += 1
        self.running += 1
        try:
            yield
        except BaseException:
            self.given_up += 1
            raise
        finally:
            self.running -= 1
            self.ms += 1000 * (time.perf_counter() - began)


class Script:
    """Serves both protocols from one loop."""

    def __init__(self, header: str) -> None:
        self._header = header
        self._work = Work()

    async def grpc_call(self, _: bytes, context: Any) -> bytes:
        """Answers a gRPC call of any method after the milliseconds that its headers say."""
        await self._take(dict(context.invocation_metadata())[self._header])
        return _REPLY

    async def rest_call(self, request: web.Request) -> web.Response:
        """Answers a REST call for any path in the same way."""
        await request.read()
        await self._take(request.headers[self._header])
        return web.json_response({"predictions": [0]})

    async def work(self, _: web.Request) -> web.Response:
        """GET /work."""
        return web.json_response(asdict(self._work))

    async def _take(self, ms: str) -> None:
        with self._work.one():
            await (asyncio.sleep(float(ms) / 1000) if math.isfinite(float(ms)) else asyncio.Event().wait())


def _reply() -> bytes:
    reply = tfs_pb2.PredictResponse()
    tensor = reply.outputs["label"]
    tensor.dtype = tfs_pb2.DT_INT64
    tensor.tensor_shape.dim.add(size=1)
    tensor.int64_val.append(0)
    return bytes(reply.SerializeToString())


_REPLY = _reply()


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, script: Script) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(script.grpc_call)

    def service(self, handler_call_details: Any) -> Any:
        return self._handler


async def _serve(header: str, grpc_port: int, rest_port: int) -> None:
    script = Script(header)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_AnyMethod(script),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    app = web.Application()
    app.router.add_get("/ready", lambda _: _ready())
    app.router.add_get("/work", script.work)
    app.router.add_route("*", "/{path:.*}", script.rest_call)
    # A call that its caller resets is cancelled at once, as on a real server that watches for it.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", rest_port).start()
    gc.freeze()
    gc.disable()  # a pause of the collector would be measured as lateness of the call
    await asyncio.Event().wait()


async def _ready() -> web.Response:
    return web.Response()


@dataclass(frozen=True)
class ScriptedNode:
    """A scripted node that runs as a child process."""

    node: Node

    async def work_so_far(self) -> Work:
        """What it has done since its start, and does now."""
        async with aiohttp.ClientSession() as http, http.get(f"http://{self.node.rest}/work") as reply:
            return Work(**await reply.json())

    async def work(self) -> Work:
        """What it has done since its start, once no call is in work."""
        while (work := await self.work_so_far()).running:
            await asyncio.sleep(0.02)
        return work


@asynccontextmanager
async def scripted_node(name: str, header: str, folder: Path) -> AsyncIterator[ScriptedNode]:
    """Runs a node that holds the model `name` and takes its time from `header`."""
    grpc_port, rest_port = free_ports(2)
    command: list[str | Path] = [sys.executable, "-m", "integration.peers.scripted_node", "--header", header]
    command += ["--grpc-port", str(grpc_port), "--rest-port", str(rest_port)]
    process = Process(f"scripted node {name}", command, folder / f"{name}.log")
    try:
        await process.start(answers(f"http://127.0.0.1:{rest_port}/ready"))
        yield ScriptedNode(
            Node(name, grpc=f"127.0.0.1:{grpc_port}", rest=f"127.0.0.1:{rest_port}", models=frozenset({name}))
        )
    finally:
        await process.stop(grace=1.0)


def main() -> None:
    """Serves until it is killed."""
    options = argparse.ArgumentParser()
    options.add_argument("--header", required=True)
    options.add_argument("--grpc-port", type=int, required=True)
    options.add_argument("--rest-port", type=int, required=True)
    chosen = options.parse_args()
    uvloop.run(_serve(chosen.header, chosen.grpc_port, chosen.rest_port))


if __name__ == "__main__":
    main()
