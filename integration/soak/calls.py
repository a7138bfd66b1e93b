"""The calls of a soak: what is sent, and whether what comes back is right."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import grpc
import grpc.aio

from integration.stack import models
from mesh.protos import tfs_pb2

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
# Longer than the longest hold: a call that takes this long hangs.
CALL_SECONDS = 30.0
_LIMIT_MS = 2500
_PAUSE = 0.02
# What a call may be told while a part of the fleet is away: too busy, not there, too late.
_REFUSALS = frozenset({429, 503, 504, "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"})

Answers = Mapping[tuple[str, str], bytes]
"""What each model answers, by protocol ("rest", "grpc") and model."""


@dataclass
class Tally:
    """What the calls came to, and the first few that went wrong, in words."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0

    def count(self, outcome: str, told: str = "") -> None:
        """Counts one call; what is wrong is kept with what was `told`."""
        self.outcomes[outcome] += 1
        if outcome in ("wrong", "hung") and len(self.wrong) < 20:
            self.wrong.append(f"{outcome}: {told}")


class Caller:
    """Calls one target (`ip:port`) with one image, for any of the models."""

    def __init__(self, target: str) -> None:
        self._target = target
        image = models.digits()[0].images[0]
        self._body = json.dumps({"instances": [image.tolist()]}).encode()
        self._request = tfs_pb2.PredictRequest()
        tensor = self._request.inputs["image"]
        tensor.dtype = tfs_pb2.DT_FLOAT
        for size in (1, 64):
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = image.tobytes()

    async def __aenter__(self) -> "Caller":
        self._http = aiohttp.ClientSession(
            f"http://{self._target}",
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        )
        options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 200)]
        self._channel = grpc.aio.insecure_channel(self._target, options=options)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.close()
        await self._channel.close()

    async def rest(self, model: str, headers: Mapping[str, str]) -> tuple[int | str, bytes, str]:
        """Status, body (or the error's text), and `tbms-answer`."""
        path = f"/v1/models/{model}:predict"
        try:
            async with self._http.post(path, data=self._body, headers=headers) as reply:
                return reply.status, await reply.read(), reply.headers.get("tbms-answer", "")
        except aiohttp.ClientError as error:
            return type(error).__name__, str(error).encode(), ""

    async def grpc(self, model: str, headers: Mapping[str, str]) -> tuple[int | str, bytes, str]:
        """The same; 200 stands for OK."""
        self._request.model_spec.name = model
        method: Any = self._channel.unary_unary(_PREDICT)
        call = method(self._request.SerializeToString(), metadata=tuple(headers.items()), timeout=CALL_SECONDS)
        try:
            body = await call
            metadata = dict(await call.initial_metadata() or ())
        except grpc.aio.AioRpcError as error:
            return error.code().name, (error.details() or "").encode(), ""
        return 200, body, str(metadata.get("tbms-answer", ""))


async def answers(caller: Caller, names: Sequence[str], protocol: str) -> dict[tuple[str, str], bytes]:
    """What a model server that holds all of them answers. Raises RuntimeError for an error."""
    found = {}
    for name in names:
        status, body, _ = await getattr(caller, protocol)(name, {})
        if status != 200:
            raise RuntimeError(f"{name} over {protocol}: {status} {body!r}")
        found[protocol, name] = body
    return found


async def call_on(caller: Caller, names: Sequence[str], right: Answers, tally: Tally, dice: Random) -> None:
    """Calls, one at a time, until cancelled: plain ones and races, over REST and gRPC."""
    while True:
        name, protocol, raced = dice.choice(names), dice.choice(("rest", "grpc")), dice.random() < 0.5
        backup = f"{name.split('-')[0]}-centroid"
        headers = {"tloc": f"{_LIMIT_MS};est=500", "backup": f"{backup};est=100"} if raced else {}
        began = time.monotonic()
        status, body, answer = await getattr(caller, protocol)(name, headers)
        ms = 1000 * (time.monotonic() - began)
        tally.slowest_ms = max(tally.slowest_ms, ms)
        told = f"{protocol} {name} {headers} after {ms:.0f} ms: {status} {body[:200]!r} {answer}"
        by = answer.split(";")[0] or name
        if ms >= 1000 * CALL_SECONDS:
            tally.count("hung", told)
        elif status in _REFUSALS:
            tally.count(f"refused {status}", told)
        elif status == 200 and body == right.get((protocol, by)) and by in (name, backup):
            tally.count("raced" if raced else "plain")
        else:
            tally.count("wrong", told)
        await asyncio.sleep(_PAUSE)
