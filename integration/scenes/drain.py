"""The scene of a node that leaves: what is called for is loaded elsewhere first, and no call fails."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from rich.console import Console

from integration.peers.clients.client import Client, ClientError, Endpoints
from integration.scenes.judge import NOBODY, Holders, Judge
from integration.scenes.routing.scene import images_of
from integration.stack import models
from integration.stack.cached_node import CachedNode
from integration.stack.stack import Stack

# As many models as the nodes that stay have room for without letting go of any that is called.
_TENANTS = models.TENANTS[:2]
_PAUSE = 0.02
_BESIDE = 0.5
_GRACE = 20.0


@dataclass
class Drained:
    """How it went. `moved` of the `held` models were on other nodes when the leaving one had ended.

    `lost` counts those that were called all the time and that no other node held then.
    """

    leaver: str = ""
    held: int = 0
    moved: int = 0
    lost: int = 0
    calls: int = 0
    failed: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    ended: bool = False
    """Whether the node ended by itself."""

    @property
    def well(self) -> bool:
        """Whether the scene showed what it is there for."""
        return self.ended and self.moved > 0 and not self.lost and not self.failed


class Drain:
    """Plays the scene: every client goes on calling while one node leaves. Replies are compared with a reference's."""

    def __init__(
        self, stack: Stack[CachedNode], reference: Endpoints, clients: Sequence[Client], console: Console
    ) -> None:
        self._stack = stack
        self._reference = reference
        self._clients = clients
        self._console = console
        self._mesh = Endpoints(grpc=stack.edge.target, rest=stack.edge.http)
        self._judge = Judge(stack)
        self._names = [models.model_name(tenant, kind) for tenant in _TENANTS for kind in models.KINDS]
        self._images = images_of(0)[0]
        self._drained = Drained()
        self._errors: list[str] = []

    async def run(self) -> Drained:
        """One node leaves, that which holds most of the models called."""
        expected = {client.protocol: await self._replies(client) for client in self._clients}
        drained = self._drained
        for model in self._names:
            await self._call(self._clients[0], model, expected[self._clients[0].protocol])
        drained.slowest_ms = 0.0  # those were loaded for the scene where the one before had evicted them
        before = await self._judge.holders()
        called = {*self._names}
        leaver = drained.leaver = max(self._stack.nodes, key=lambda name: len(_held(name, before) & called))
        held = _held(leaver, before)
        self._console.print(
            f"{leaver} is asked to leave (SIGTERM), while all clients call models of {' and '.join(_TENANTS)} ..."
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(self._clients):
                order = self._names[number:] + self._names[:number]
                group.create_task(self._go_on(client, order, expected[client.protocol], stop))
            try:
                await asyncio.sleep(_BESIDE)
                await self._leave(self._stack.nodes[leaver])
                after = await self._judge.holders()
                moved = {model for model in held if after.get(model, NOBODY) - {leaver}}
                drained.held, drained.moved, drained.lost = len(held), len(moved), len(held & called - moved)
                await self._stack.nodes[leaver].stop()
                await asyncio.sleep(_BESIDE)
            finally:
                stop.set()
        for error in self._errors[:10]:
            self._console.print(error, markup=False)
        return drained

    async def _leave(self, node: CachedNode) -> None:
        started = time.perf_counter()
        status = await node.agent.server.stop(_GRACE)
        self._drained.seconds = time.perf_counter() - started
        self._drained.ended = status == 0

    async def _replies(self, client: Client) -> Mapping[str, object]:
        answers = [await client.predict(self._reference, model, self._images) for model in self._names]
        return {model: answer.reply for model, answer in zip(self._names, answers, strict=True)}

    async def _go_on(
        self, client: Client, order: Sequence[str], expected: Mapping[str, object], stop: asyncio.Event
    ) -> None:
        for model in cycle(order):
            if stop.is_set():
                return
            await self._call(client, model, expected)
            await asyncio.sleep(_PAUSE)

    async def _call(self, client: Client, model: str, expected: Mapping[str, object]) -> None:
        drained, started = self._drained, time.perf_counter()
        drained.calls += 1
        try:
            answer = await client.predict(self._mesh, model, self._images)
            problem = "" if answer.reply == expected[model] else "the reply differs from the reference's"
        except ClientError as error:
            problem = str(error)
        drained.slowest_ms = max(drained.slowest_ms, 1000 * (time.perf_counter() - started))
        if problem:
            drained.failed += 1
            self._errors.append(f"{client.protocol}, {model}: {problem}")


def _held(node: str, holders: Holders) -> set[str]:
    return {model for model, nodes in holders.items() if node in nodes}
