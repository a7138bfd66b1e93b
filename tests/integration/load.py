"""Steady calls in the background of a test, while something happens to the stack."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.raw import channel, rest_client, unary

_PAUSE = 0.005


@dataclass
class Outcomes:
    """What the calls came to, in order of their ends: (start, end, outcome), seconds on the monotonic clock."""

    seen: list[tuple[float, float, str]] = field(default_factory=list)

    def count(self, since: float = 0.0) -> Counter[str]:
        """Outcomes of the calls that started at `since` or later."""
        return Counter(outcome for start, _, outcome in self.seen if start >= since)

    async def more(self, number: int, outcome: str | None = None) -> None:
        """Returns once `number` calls that start from now on have ended (with `outcome`, if one is given)."""
        since = time.monotonic()
        async with asyncio.timeout(60):
            while True:
                count = self.count(since)
                if (count.total() if outcome is None else count[outcome]) >= number:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def steady(ask: Callable[[int], Awaitable[str]], workers: int) -> AsyncIterator[Outcomes]:
    """`workers` tasks that call `ask` (with a counter) again and again; it returns the outcome."""
    outcomes, stopping = Outcomes(), False

    async def work(number: int) -> None:
        while not stopping:
            start = time.monotonic()
            outcome = await ask(number)
            outcomes.seen.append((start, time.monotonic(), outcome))
            number += workers
            # So that what the test waits for gets its share of the machine.
            await asyncio.sleep(_PAUSE)

    async with asyncio.TaskGroup() as tasks:
        for number in range(workers):
            tasks.create_task(work(number))
        try:
            yield outcomes
        finally:
            stopping = True


@asynccontextmanager
async def steady_rest(edge: Sidecar, wanted: list[calls.Rest], workers: int = 4) -> AsyncIterator[Outcomes]:
    """Plain REST calls, one after the other of `wanted`; the outcome is the status, or the error's name."""
    async with rest_client(edge.http) as client:

        async def ask(number: int) -> str:
            call = wanted[number % len(wanted)]
            try:
                reply = await client.post(call.path, content=call.body, headers=call.headers)
            except httpx.HTTPError as error:
                return type(error).__name__
            return str(reply.status_code)

        async with steady(ask, workers) as outcomes:
            yield outcomes


@asynccontextmanager
async def steady_grpc(edge: Sidecar, wanted: list[calls.Grpc], workers: int = 4) -> AsyncIterator[Outcomes]:
    """gRPC calls with a deadline of 20 s; the outcome is the status."""
    async with channel(edge.target) as through:

        async def ask(number: int) -> str:
            call = wanted[number % len(wanted)]
            return (await unary(through, call.method, call.message, timeout=20)).code

        async with steady(ask, workers) as outcomes:
            yield outcomes
