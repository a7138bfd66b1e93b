"""Tasks by node, in virtual time."""

import asyncio

import pytest

from integration.virtual_time import run
from mesh.node import Node
from mesh.per_node_tasks import PerNodeTasks
from tests.mesh.background import during
from tests.mesh.routing.population import node, nodes


class Visitor:
    """What is kept of a node, and the seconds at which it was worked for."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.visits: list[float] = []
        self.cancelled = False


class Visits:
    """Works for each node once a second; a node without a gRPC endpoint is none of its business."""

    def __init__(self) -> None:
        self.tasks = PerNodeTasks("visit", lambda node: node.grpc, Visitor, self._work)
        self.broken = False

    async def _work(self, visitor: Visitor) -> None:
        try:
            while not self.broken:
                visitor.visits.append(asyncio.get_running_loop().time())
                await asyncio.sleep(1.0)
            raise LookupError("broken")
        except asyncio.CancelledError:
            visitor.cancelled = True
            raise

    def of(self, number: int) -> Visitor:
        visitor = self.tasks.get(f"node-{number}")
        assert visitor is not None
        return visitor


def test_nodes_known_before_and_while_it_runs_are_worked_for() -> None:
    visits = Visits()
    assert visits.tasks.update(nodes(1)) == []

    async def story() -> None:
        await asyncio.sleep(2.5)
        visits.tasks.update(nodes(2))
        await asyncio.sleep(1.0)
        assert {task.get_name() for task in asyncio.all_tasks()} >= {"visit node-0", "visit node-1"}

    during(visits.tasks, story)
    assert visits.of(0).visits == [0.0, 1.0, 2.0, 3.0]
    assert visits.of(1).visits == [2.5, 3.5]
    assert visits.of(0).cancelled


def test_a_node_that_goes_takes_its_task_along() -> None:
    visits = Visits()
    visits.tasks.update(nodes(2))

    async def story() -> None:
        await asyncio.sleep(0.5)
        gone = visits.of(1)
        assert visits.tasks.update(nodes(1)) == [gone]
        assert visits.tasks.get("node-1") is None
        await asyncio.sleep(2.0)
        assert gone.visits == [0.0]
        assert gone.cancelled
        assert visits.of(0).visits == [0.0, 1.0, 2.0]

    during(visits.tasks, story)


def test_a_node_that_changes_keeps_its_task_and_one_that_moves_gets_another() -> None:
    visits = Visits()
    visits.tasks.update(nodes(1))

    async def story() -> None:
        await asyncio.sleep(0.5)
        first = visits.of(0)
        assert visits.tasks.update([node(0, weight=3.0)]) == []
        assert visits.of(0) is first
        assert first.node.weight == 3.0
        assert visits.tasks.update([node(0, grpc="10.9.9.9:1", zone="east")]) == [first]
        assert first.node.zone == "east"
        assert visits.of(0) is not first
        await asyncio.sleep(0.1)
        assert (first.cancelled, visits.of(0).visits) == (True, [0.5])

    during(visits.tasks, story)


def test_nothing_is_done_for_a_node_without_identity_until_it_has_one() -> None:
    visits = Visits()
    visits.tasks.update([node(0, grpc=None)])

    async def story() -> None:
        await asyncio.sleep(1.0)
        assert visits.tasks.get("node-0") is None
        visits.tasks.update(nodes(1))
        await asyncio.sleep(0.1)
        assert visits.of(0).visits == [1.0]
        visits.tasks.update([node(0, grpc=None)])
        assert visits.tasks.get("node-0") is None

    during(visits.tasks, story)


def test_an_error_in_one_task_ends_all_and_is_raised() -> None:
    visits = Visits()
    visits.tasks.update(nodes(2))

    async def main() -> None:
        running = asyncio.create_task(visits.tasks.run())
        await asyncio.sleep(0.5)
        visits.broken = True
        with pytest.raises(ExceptionGroup) as raised:
            await running
        assert raised.group_contains(LookupError)

    run(main())
