"""`tbms demo`: real models, real nodes, a real Envoy, unchanged clients, on this machine."""

import sys

from rich.console import Console

from integration import models
from integration.embedded import NodeSpec
from integration.interrupt import run
from integration.placement import shares
from integration.process import ProcessError
from integration.scenes.deadline import Deadline
from integration.scenes.routing import Routing
from integration.stack import Stack

_NODES = ("node-a", "node-b", "node-c")
# Of the calls asked for, one in so many is made at each point of the deadline scene: of 600, each held-out image once.
_CALLS_A_POINT = 20


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
        names = [path.name for path in sorted(repository.iterdir())]
        held, counted = models.digits()
    console.print(
        f"{len(names)} models ({', '.join(models.KINDS)} for {len(models.TENANTS)} tenants), each trained on its own "
        f"sample of {len(held.images)} handwritten digits, {len(counted.images)} held out; ONNX files in {repository}"
    )
    nodes = [NodeSpec(name, models=share) for name, share in shares(names, _NODES).items()]
    console.print("Starting three nodes, the server and Envoy ...")
    async with Stack(repository, nodes, sections={"routing": {"replicas": 1}}) as stack:
        console.print(f"Envoy {stack.edge.version} listens on {stack.edge.http}")
        tally = await Routing(stack, console, calls).run()
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
    console.print(f"demo: answered={tally.answered} failed={tally.failed} misrouted={tally.misrouted}", highlight=False)
    return 0 if tally.answered == calls and not tally.failed and not tally.misrouted else 1
