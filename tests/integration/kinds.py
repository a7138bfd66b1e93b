"""Steady calls of every kind for scaling models, while something happens to their nodes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from tritonclient.grpc import service_pb2 as pb

from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.load import Outcomes, steady
from tests.integration.raw import channel, rest_client, unary

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}).encode()
WORKERS = 4


@asynccontextmanager
async def every_kind(edge: Sidecar, names: Sequence[str]) -> AsyncIterator[dict[str, Outcomes]]:
    """Steady calls for every model: over REST, over gRPC with the model's name in the headers, and without."""
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(rest_client(edge.http))
        through = await opened.enter_async_context(channel(edge.target))

        async def over_rest(number: int) -> str:
            try:
                reply = await http.post(f"/v2/models/{names[number % len(names)]}/infer", content=BODY)
            except httpx.HTTPError as error:
                return type(error).__name__
            return "OK" if reply.status_code == 200 else f"{reply.status_code} {reply.text}"

        async def over_grpc(number: int, named: bool) -> str:
            model = names[number % len(names)]
            request = pb.ModelInferRequest(model_name=model)
            request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, 2.0])
            metadata = [("x-tbms-model", model)] if named else []
            reply = await unary(through, calls.V2_INFER, request.SerializeToString(), metadata, timeout=20)
            return reply.code if reply.code == "OK" else f"{reply.code} {reply.details}"

        kinds: dict[str, Callable[[int], Awaitable[str]]] = {
            "rest": over_rest,
            "named": lambda number: over_grpc(number, True),
            "unnamed": lambda number: over_grpc(number, False),
        }
        yield {kind: await opened.enter_async_context(steady(ask, workers=WORKERS)) for kind, ask in kinds.items()}


async def more_known(*servers: Sidecar) -> None:
    """Returns once each server has heard of calls that its Envoy has sent by itself meanwhile."""

    async def carried(server: Sidecar) -> int:
        return int((await server.status())["calls"].get("known", 0))

    async with asyncio.timeout(60):
        for server in servers:
            before = await carried(server)
            while await carried(server) <= before:
                await asyncio.sleep(0.02)


async def more(outcomes: dict[str, Outcomes], number: int) -> None:
    await asyncio.gather(*(each.more(number) for each in outcomes.values()))
