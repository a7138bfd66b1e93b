"""The scene of step one: every call lands on the node that holds its model, whatever client sends it."""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from integration import models
from integration.clients.client import Client, ClientError, Images, Place
from integration.clients.tf_serving import TfServingRest, tf_serving_grpc
from integration.clients.triton import TritonGrpc, TritonRest
from integration.envoy_counts import calls_by_address
from integration.stack import Stack

_IMAGES_A_CALL = 25


@dataclass
class Tally:
    """How the calls of a scene ended."""

    answered: int = 0
    failed: int = 0
    misrouted: int = 0


@dataclass
class _Row:
    """What was seen of one model: calls by node, latencies (ms) by protocol, and digits read rightly."""

    nodes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    right: int = 0
    images: int = 0


@dataclass
class _Library:
    """What was seen of one client library: latencies (ms) through the mesh and directly, and replies that differ."""

    mesh: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    different: int = 0


class Routing:
    """Sends calls for every model with every client, and the same calls directly to the node that holds the model.

    A call counts as answered if its reply equals the direct one, else as failed. It is misrouted if Envoy sent it,
    or a retry of it, to a node that does not hold the model; Envoy's own counters say where calls went.
    """

    def __init__(self, stack: Stack, console: Console, calls: int) -> None:
        self._stack = stack
        self._console = console
        self._calls = calls
        self._mesh = Place(grpc=stack.edge.target, rest=stack.edge.http)
        self._rows: dict[str, _Row] = {}
        self._libraries: dict[str, _Library] = {}
        self._tally = Tally()
        self._errors: list[str] = []

    async def run(self) -> Tally:
        """Plays the scene."""
        clients: list[Client] = [TfServingRest(), tf_serving_grpc(), TritonRest(), TritonGrpc()]
        try:
            # Imports and connections of the clients are not what the table is about.
            for client in clients:
                await client.predict(
                    self._place(self._holder(self._models()[0])), self._models()[0], self._images(0)[0]
                )
            pairs = [(model, client) for model in self._models() for client in clients]
            share, rest = divmod(self._calls, len(pairs))
            # Without a terminal a live table would be a table for every step: then only the last is printed.
            live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
            with live or nullcontext():
                for number, (model, client) in enumerate(pairs):
                    await self._ask(client, model, number, share + (number < rest))
                    if live:
                        live.update(self._table(clients), refresh=True)
            if not live:
                self._console.print(self._table(clients))
        finally:
            for client in clients:
                await client.close()
        for error in self._errors[:10]:
            self._console.print(error, markup=False)
        return self._tally

    async def _ask(self, client: Client, model: str, number: int, calls: int) -> None:
        """`calls` calls by one client for one model, then the same directly."""
        row = self._rows.setdefault(model, _Row())
        seen = self._libraries.setdefault(client.protocol, _Library())
        before = await calls_by_address(self._stack.edge.envoy_admin)
        replies = []
        for call in range(calls):
            images, labels = self._images(number + call)
            started = time.perf_counter()
            try:
                answer = await client.predict(self._mesh, model, images)
            except ClientError as error:
                self._fail(model, client, str(error))
                continue
            elapsed = 1000 * (time.perf_counter() - started)
            row.latencies[client.protocol].append(elapsed)
            seen.mesh.append(elapsed)
            row.right += int((answer.labels == labels).sum())
            row.images += len(labels)
            replies.append((images, answer))
        for address, sent in (await calls_by_address(self._stack.edge.envoy_admin) - before).items():
            node = self._stack.by_address(address)
            row.nodes[node.spec.id] += sent
            if model not in node.node.models:
                self._tally.misrouted += sent
        for images, answer in replies:
            started = time.perf_counter()
            direct = await client.predict(self._place(self._holder(model)), model, images)
            seen.direct.append(1000 * (time.perf_counter() - started))
            if direct.reply == answer.reply:
                self._tally.answered += 1
            else:
                seen.different += 1
                self._fail(model, client, "the reply differs from the node's own")

    def _fail(self, model: str, client: Client, why: str) -> None:
        self._tally.failed += 1
        self._errors.append(f"{client.protocol}, {model}: {why}")

    def _models(self) -> list[str]:
        return sorted(name for node in self._stack.nodes.values() for name in node.node.models)

    def _holder(self, model: str) -> str:
        return next(name for name, node in self._stack.nodes.items() if model in node.node.models)

    def _place(self, node: str) -> Place:
        return Place(grpc=self._stack.nodes[node].grpc, rest=self._stack.nodes[node].rest)

    @staticmethod
    def _images(number: int) -> tuple[Images, models.Labels]:
        held = models.digits()[1]
        rows = np.arange(number * _IMAGES_A_CALL, (number + 1) * _IMAGES_A_CALL) % len(held.images)
        return held.images[rows], held.labels[rows]

    def _table(self, clients: Sequence[Client]) -> Group:
        return Group(_model_table(self._rows, clients), _library_table(self._libraries, clients))


def _model_table(rows: Mapping[str, _Row], clients: Sequence[Client]) -> Table:
    table = Table(title="Calls through Envoy: medians in ms, accuracy on held-out images", title_justify="left")
    table.add_column("model")
    table.add_column("node chosen")
    for client in clients:
        table.add_column(client.protocol, justify="right")
    table.add_column("accuracy", justify="right")
    for model, row in rows.items():
        nodes = ", ".join(f"{node} x{sent}" for node, sent in sorted(row.nodes.items()))
        medians = [_median(row.latencies[client.protocol]) for client in clients]
        table.add_row(model, nodes, *medians, f"{row.right / row.images:.1%}" if row.images else "")
    return table


def _library_table(libraries: Mapping[str, _Library], clients: Sequence[Client]) -> Table:
    table = Table(title="The same calls, directly to the node that holds the model", title_justify="left")
    for heading in ("protocol", "client library", "calls", "through Envoy, ms", "directly, ms", "replies that differ"):
        table.add_column(heading, justify="left" if heading.startswith(("protocol", "client")) else "right")
    for client in clients:
        seen = libraries.get(client.protocol, _Library())
        table.add_row(
            client.protocol,
            client.library,
            str(len(seen.mesh)),
            _median(seen.mesh),
            _median(seen.direct),
            str(seen.different),
        )
    return table


def _median(milliseconds: Sequence[float]) -> str:
    return f"{statistics.median(milliseconds):.1f}" if milliseconds else ""
