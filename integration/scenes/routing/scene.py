"""The scene of routing and cache: nodes that start empty load what they are called for, and evict what they must.

Every call lands on the node that holds its model, whatever client sends it, and is answered as if it held all models.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random

import numpy as np
from rich.console import Console
from rich.live import Live

from integration.peers.clients.client import Answer, Client, ClientError, Endpoints, Images
from integration.scenes.judge import NOBODY, Holders, Judge, misrouted
from integration.scenes.routing import tables
from integration.scenes.routing.tables import LibrarySeen, NodeSeen, Seen
from integration.stack import models
from integration.stack.cached_node import CachedNode
from integration.stack.stack import Stack
from mesh.routing.rendezvous import Rendezvous

IMAGES_A_CALL = 25
_SEED = 7


@dataclass
class Tally:
    """How the calls of the scene ended. `agreed`: the edge's cache map told the truth in the end."""

    answered: int = 0
    failed: int = 0
    misrouted: int = 0
    agreed: bool = False


class Routing:
    """Sends calls for every model with every client, in a mixed order, and the same calls to a reference.

    The reference is a model server outside the fleet that has all models loaded. A call counts as answered if its
    reply equals that of the reference, else as failed. Whether it was misrouted, `judge.misrouted` says.
    """

    def __init__(
        self, stack: Stack[CachedNode], reference: Endpoints, clients: Sequence[Client], console: Console, calls: int
    ) -> None:
        self._reference = reference
        self._clients = clients
        self._console = console
        self._calls = calls
        self._mesh = Endpoints(grpc=stack.edge.target, rest=stack.edge.http)
        self._judge = Judge(stack)
        self._seen = Seen(
            {name: NodeSeen() for name in stack.nodes}, {client.protocol: LibrarySeen() for client in clients}
        )
        self._tally = Tally()
        self._errors: list[str] = []

    async def run(self, names: Sequence[str]) -> Tally:
        """Plays the scene with these models."""
        ring = Rendezvous((node, 1.0) for node in self._seen.nodes)
        for model in names:
            self._seen.nodes[ring.ids[ring.order(model)[0]]].homes += 1
        bursts = self._bursts(names)
        # Without a terminal a live table would be a table for every step: then only the last is printed.
        live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        with live or nullcontext():
            for number, (model, client, calls) in enumerate(bursts):
                await self._ask(client, model, number, calls)
                if live:
                    live.update(tables.while_playing(self._seen), refresh=True)
        self._console.print(tables.after_playing(self._seen, self._clients))
        self._tally.agreed = await self._judge.is_known_to_the_edge(self._seen.holders)
        for error in self._errors[:10]:
            self._console.print(error, markup=False)
        return self._tally

    def _bursts(self, names: Sequence[str]) -> list[tuple[str, Client, int]]:
        """Who asks for what how often, in an order that is the same in every run."""
        pairs = [(model, client) for model in names for client in self._clients]
        Random(_SEED).shuffle(pairs)
        share, rest = divmod(self._calls, len(pairs))
        bursts = [(model, client, share + (number < rest)) for number, (model, client) in enumerate(pairs)]
        return [burst for burst in bursts if burst[2]]

    async def _ask(self, client: Client, model: str, number: int, calls: int) -> None:
        """`calls` calls by one client for one model, one after the other, then the same to the reference."""
        library, kind = self._seen.libraries[client.protocol], model.rpartition("-")[2]
        before, sent_before = self._seen.holders, await self._judge.sent()
        replies: list[tuple[Images, Answer]] = []
        for call in range(calls):
            images, labels = images_of(number + call)
            is_cold = not call and model not in before
            started = time.perf_counter()
            try:
                answer = await client.predict(self._mesh, model, images)
            except ClientError as error:
                self._fail(model, client, str(error))
                continue
            (library.cold if is_cold else library.hits).append(1000 * (time.perf_counter() - started))
            self._seen.right[kind] += int((answer.labels == labels).sum())
            self._seen.images[kind] += len(labels)
            replies.append((images, answer))
        await self._look(model, before, await self._judge.sent() - sent_before)
        for images, answer in replies:
            started = time.perf_counter()
            expected = await client.predict(self._reference, model, images)
            library.direct.append(1000 * (time.perf_counter() - started))
            if expected.reply == answer.reply:
                self._tally.answered += 1
            else:
                library.different += 1
                self._fail(model, client, "the reply differs from that of a model server with the same model")

    async def _look(self, model: str, before: Holders, sent: Counter[str]) -> None:
        """Who got the calls, and what was loaded and evicted by them."""
        after = self._seen.holders = await self._judge.holders()
        self._tally.misrouted += misrouted(sent, before.get(model, NOBODY), after.get(model, NOBODY))
        for node, count in sent.items():
            self._seen.nodes[node].calls += count
            self._seen.nodes[node].cold += model not in before
        for node, came in _differences(after, before).items():
            self._seen.nodes[node].loads += came
        for node, went in _differences(before, after).items():
            self._seen.nodes[node].evictions += went

    def _fail(self, model: str, client: Client, why: str) -> None:
        self._tally.failed += 1
        self._errors.append(f"{client.protocol}, {model}: {why}")


def images_of(number: int) -> tuple[Images, models.Labels]:
    """The images of one call, and the digits on them; after the last held-out image comes the first again."""
    held = models.digits()[1]
    rows = np.arange(number * IMAGES_A_CALL, (number + 1) * IMAGES_A_CALL) % len(held.images)
    return held.images[rows], held.labels[rows]


def _differences(these: Holders, those: Holders) -> Counter[str]:
    """By node, how many models are on it in `these` and not in `those`."""
    counts: defaultdict[str, int] = defaultdict(int)
    for model, nodes in these.items():
        for node in nodes - those.get(model, NOBODY):
            counts[node] += 1
    return Counter(counts)
