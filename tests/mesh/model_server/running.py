"""A model server inside the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.model_server.server import ModelServerSettings, serve


@dataclass(frozen=True, slots=True)
class Running:
    """`host:port` of both APIs, and the way to stop it early."""

    grpc: str
    rest: str
    stop: asyncio.Event
    task: "asyncio.Task[None]"


@asynccontextmanager
async def running(repository: Path, **settings: Any) -> AsyncIterator[Running]:
    """Serve `repository` on free loopback ports; on exit the server has ended by itself."""
    listening: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    def ready(grpc_port: int, rest_port: int) -> None:
        listening.set_result((grpc_port, rest_port))

    options = ModelServerSettings(repository=repository, grpc_port=0, rest_port=0, **settings)
    task = asyncio.create_task(serve(options, ready, stop))
    await asyncio.wait({listening, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    grpc_port, rest_port = listening.result()
    try:
        yield Running(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{rest_port}", stop, task)
    finally:
        stop.set()
        await task
