"""`tbms demo`: real models, real nodes, a real Envoy, unchanged clients, on this machine."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from integration.peers.clients.client import Client, Endpoints
from integration.peers.clients.tf_serving import TfServingRest, tf_serving_grpc
from integration.peers.clients.triton import TritonGrpc, TritonRest
from integration.scenes.batches.scene import Batches
from integration.scenes.deadline.scene import Deadline
from integration.scenes.drain import Drain, Drained
from integration.scenes.routing.scene import Routing, Tally, images_of
from integration.stack import models
from integration.stack.cached_node import CachedSpec
from integration.stack.embedded import reference
from integration.stack.interrupt import run
from integration.stack.process import ProcessError
from integration.stack.sidecar import Section
from integration.stack.stack import Stack

_NODES = ("node-a", "node-b", "node-c")
# Of the calls asked for, one in so many is made at each point of the deadline scene: of 600, each held-out image once.
_CALLS_A_POINT = 20
# On a machine that does much else, calls wait for the server rather than go to any node.
_SECTIONS: dict[str, Section] = {"routing": {"replicas": 1}, "envoy": {"server_wait_seconds": 10.0}}


def main(*, calls: int = 600) -> int:
    """Plays the demo; returns the exit status: 0 only if every call was answered by a node that holds its model."""
    try:
        return run(_play(_console(), calls))
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1


def _console() -> Console:
    console = Console()
    # A log has no edge; the tables need this much room.
    return console if console.is_terminal else Console(width=max(console.width, 120))


async def _play(console: Console, calls: int) -> int:
    with console.status("Training the models ...") as status:
        repository = models.repository(tell=lambda name: status.update(f"Training {name} ..."))
        names = sorted(path.name for path in repository.iterdir())
        held, counted = models.digits()
    console.print(
        f"{len(names)} models ({', '.join(models.KINDS)} for {len(models.TENANTS)} tenants), each trained on its own "
        f"sample of {len(held.images)} handwritten digits, {len(counted.images)} held out; ONNX files in {repository}"
    )
    tally, drained = await _fleet(console, repository, names, calls)
    console.rule("An answer in time")
    console.print("Starting two nodes, one of them slow, for calls with a time limit ...")
    scene = Deadline(console, models.cache_folder() / "demo", calls=max(1, calls // _CALLS_A_POINT))
    points = await scene.run(repository)
    backed, alone = ([point for point in points if point.backups is with_backups] for with_backups in (True, False))
    console.print(
        f"deadline: calls={sum(point.calls for point in backed)} "
        f"in_time_with_backups={sum(point.in_time for point in backed)} "
        f"in_time_without={sum(point.in_time for point in alone)}",
        highlight=False,
    )
    console.rule("In batches")
    console.print("Starting a node with one large model, for ever more clients ...")
    many = await Batches(console, models.cache_folder() / "demo").run()
    most = max(point.clients for point in many)
    alone_rate, together_rate = (
        next(point.rate for point in many if point.clients == most and point.batches is batches)
        for batches in (False, True)
    )
    console.print(
        f"batches: clients={most} one_by_one={alone_rate:.0f}/s in_batches={together_rate:.0f}/s", highlight=False
    )
    console.print(f"demo: answered={tally.answered} failed={tally.failed} misrouted={tally.misrouted}", highlight=False)
    well = tally.answered == calls and not tally.failed and not tally.misrouted
    return 0 if well and tally.agreed and drained.well else 1


async def _fleet(console: Console, repository: Path, names: Sequence[str], calls: int) -> tuple[Tally, Drained]:
    """The scenes that are played with nodes that start empty."""
    room = -(-len(names) // len(_NODES))
    # A demo has no time to wait until models are old enough to go.
    cache = {"capacity": {"models": room}, "min_age_seconds": 0}
    nodes = [CachedSpec(name, cache=cache) for name in _NODES]
    console.rule("The right node, the model on demand")
    console.print(f"Starting three empty nodes, each with room for {room} of the {len(names)} models, and an edge ...")
    async with (
        reference(repository) as server,
        _clients(right := Endpoints(grpc=server.grpc, rest=server.rest), names[0]) as clients,
        Stack(repository, nodes, sections=_SECTIONS) as stack,
    ):
        libraries = await clients
        console.print(f"Envoy {stack.edge.version} listens on {stack.edge.http}; {calls} calls go there, mixed ...")
        tally = await Routing(stack, right, libraries, console, calls).run(names)
        says = "says the same" if tally.agreed else "does not say the same"
        console.print(f"The edge's cache map, by which calls are routed, {says}.")
        console.rule("A node leaves")
        drained = await Drain(stack, right, libraries, console).run()
    console.print(
        f"It ended {drained.seconds:.1f} s later. By then the others had loaded {drained.moved} of its {drained.held} "
        f"models. The slowest call took {drained.slowest_ms:.0f} ms.",
        highlight=False,
    )
    console.print(f"drain: calls={drained.calls} failed={drained.failed} moved={drained.moved}", highlight=False)
    return tally, drained


@asynccontextmanager
async def _clients(endpoints: Endpoints, model: str) -> AsyncIterator[asyncio.Task[Sequence[Client]]]:
    """Client libraries that know nothing of tbms: a task that has them when each has made a first call.

    Imports take seconds (TensorFlow), and are not what the tables are about.
    """
    clients: list[Client] = [TfServingRest(), tf_serving_grpc(), TritonRest(), TritonGrpc()]

    async def warm() -> Sequence[Client]:
        for client in clients:
            await client.predict(endpoints, model, images_of(0)[0])
        return clients

    warming = asyncio.create_task(warm())
    try:
        yield warming
    finally:
        warming.cancel()
        await asyncio.wait((warming,))
        for client in clients:
            await client.close()
