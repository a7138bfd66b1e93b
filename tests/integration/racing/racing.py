"""A call of any protocol through an edge, and what came back of it."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from ext_proc.wire.call import InferenceProtocol
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.racing.puppet import value_of
from tests.integration.raw import Pairs, channel, rest_client, unary

IMAGE = np.full((1, 64), 8, dtype=np.float32)
# What these tests ask is who answers: hedges are never refused for want of budget, and estimates stay the declared
# ones, so that no test learns from the calls of another. Of a gRPC deadline a tenth is kept, since the client shares
# this process with everything else.
RULES = {"hedge_share": 1.0, "hedge_burst_ms": 1_000_000.0, "estimate_window_s": 0.1, "deadline_slack_ms": 1000.0}


@dataclass(frozen=True)
class Got:
    """`status` is the HTTP status, or the gRPC code's name; `value` the prediction, None for an error."""

    status: int | str
    value: float | None
    error: str
    headers: Mapping[str, Any]
    trailers: Pairs = ()

    @property
    def answer(self) -> str:
        """The `tbms-answer` header; empty where there is none."""
        return str(self.headers.get("tbms-answer", ""))

    def tell(self, name: str) -> str:
        """One parameter of it."""
        found = re.search(rf";{name}=([^;]*)", self.answer)
        assert found, f"{name} is not in {self.answer!r}"
        return found[1].strip('"')


class Client:
    """Calls one edge in all four protocols."""

    def __init__(self, edge: Sidecar) -> None:
        self._edge = edge

    async def __aenter__(self) -> "Client":
        self._stack = AsyncExitStack()
        self.http = await self._stack.enter_async_context(rest_client(self._edge.http))
        self.channel = await self._stack.enter_async_context(channel(self._edge.target))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def call(
        self,
        protocol: InferenceProtocol,
        model: str,
        headers: Mapping[str, str] | None = None,
        *,
        images: np.ndarray = IMAGE,
        timeout: float = 60,
        version: str = "",
    ) -> Got:
        if protocol.is_grpc:
            return await self._grpc(protocol, model, headers or {}, images, timeout)
        write = calls.tfs_rest if protocol is InferenceProtocol.TFS_REST else calls.v2_rest
        asked = write(model, images, version)
        reply = await self.http.post(asked.path, content=asked.body, headers={**asked.headers, **(headers or {})})
        value = value_of(protocol, reply.content) if reply.status_code == 200 else None
        error = "" if value is not None else reply.json()["error"]
        return Got(reply.status_code, value, error, reply.headers)

    async def _grpc(
        self, protocol: InferenceProtocol, model: str, headers: Mapping[str, str], images: np.ndarray, timeout: float
    ) -> Got:
        write = calls.tfs_grpc if protocol is InferenceProtocol.TFS_GRPC else calls.v2_grpc
        asked = write(model, images)
        metadata: Sequence[tuple[str, str]] = list(headers.items())
        reply = await unary(self.channel, asked.method, asked.message, metadata, timeout)
        value = value_of(protocol, reply.message) if reply.code == "OK" else None
        return Got(reply.code, value, reply.details, dict(reply.initial), reply.trailing)
