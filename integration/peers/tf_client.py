"""A real TF Serving client (tensorflow-serving-api), kept in a process of its own because it brings all of TensorFlow.

async with tf_client() as client:
    reply = await client.call("Predict", "127.0.0.1:8500", request)      # any message, or bytes
    reply = await client.predict("127.0.0.1:8500", "digits", {"x": ("float32", [[1.0, 2.0]])})
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build" / "tf-client" / "bin" / "python"
RUNNER = Path(__file__).with_name("tf_client_runner.py")

Array = tuple[str, Any]
"""One array: (dtype as TensorFlow names it, nested lists)."""
Metadata = Sequence[tuple[str, str]]


class Serializable(Protocol):
    """A protobuf message of whichever package."""

    def SerializeToString(self) -> bytes:
        """The message on the wire."""
        ...


class TfClientError(Exception):
    """The client process ended, or could not make the call at all (which is never the server's doing)."""


@dataclass(frozen=True, slots=True)
class TfReply:
    """What the client got: gRPC status code (0 is OK) and details, the response's bytes, and both kinds of metadata.

    `arrays` are the outputs of a PredictResponse, as TensorFlow reads them.
    """

    code: int
    details: str
    response: bytes
    initial: tuple[tuple[str, str], ...]
    trailing: tuple[tuple[str, str], ...]
    arrays: dict[str, Array]


def missing() -> str | None:
    """Why the client cannot be started here, or None if it can."""
    return None if PYTHON.exists() else f"no TensorFlow under {PYTHON}: run `integration/setup.sh tf-client`"


class TfClient:
    """Calls through one client process; many calls may be under way at once."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(
        self,
        method: str,
        target: str,
        request: Serializable | bytes,
        *,
        metadata: Metadata = (),
        timeout: float = 30.0,
    ) -> TfReply:
        """Call PredictionService or ModelService at `target` with a request of the same wire format."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return await self._ask(
            {
                "method": method,
                "target": target,
                "request": base64.b64encode(body).decode(),
                "metadata": list(metadata),
                "timeout": timeout,
            }
        )

    async def predict(
        self,
        target: str,
        model: str,
        arrays: Mapping[str, Array],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        metadata: Metadata = (),
        timeout: float = 30.0,
    ) -> TfReply:
        """Call Predict with a request that TensorFlow builds from `arrays`."""
        return await self._ask(
            {
                "method": "Predict",
                "target": target,
                "model": model,
                "arrays": dict(arrays),
                "version": version,
                "label": label,
                "signature": signature,
                "metadata": list(metadata),
                "timeout": timeout,
            }
        )

    async def examples(
        self,
        method: str,
        target: str,
        model: str,
        examples: Sequence[Mapping[str, Array]],
        *,
        context: Mapping[str, Array] | None = None,
        signature: str | None = None,
        timeout: float = 30.0,
    ) -> TfReply:
        """Call Classify or Regress with examples that TensorFlow builds, each of features by kind and values."""
        return await self._ask(
            {
                "method": method,
                "target": target,
                "model": model,
                "signature": signature,
                "examples": list(examples),
                "context": context,
                "timeout": timeout,
            }
        )

    async def _ask(self, order: dict[str, Any]) -> TfReply:
        if self._process.stdout is None or self._process.stdout.at_eof():
            raise TfClientError("the client process has ended")
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order | {"id": number}).encode() + b"\n")
            await self._process.stdin.drain()
            answer = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise TfClientError(answer["error"])
        return TfReply(
            answer["code"],
            answer["details"],
            base64.b64decode(answer.get("response", "")),
            tuple((key, value) for key, value in answer["initial"]),
            tuple((key, value) for key, value in answer["trailing"]),
            {name: (dtype, values) for name, (dtype, values) in answer.get("arrays", {}).items()},
        )

    async def read(self) -> None:
        """Hand the answers to the callers that wait for them, until the process ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.get(answer["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(TfClientError("the client process ended"))


@asynccontextmanager
async def tf_client() -> AsyncIterator[TfClient]:
    """Start the client process (a few seconds: it imports TensorFlow) and end it afterwards.

    Raises TfClientError with what it printed if it does not start.
    """
    with TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            str(PYTHON),
            str(RUNNER),
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            limit=256 << 20,
            process_group=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not await process.stdout.readline():
                errors.seek(0)
                raise TfClientError(errors.read().decode(errors="replace"))
            client = TfClient(process)
            reader = asyncio.create_task(client.read())
            try:
                yield client
            finally:
                process.stdin.close()  # ends the process: it reads no further order
                await reader
                # Its output ends a moment before it does; a kill in that moment confuses asyncio's child watcher.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 5)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
