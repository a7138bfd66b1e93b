"""Registering: keeps a node known to the services of `node.registration`, and takes that back before it goes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mesh.discovery.registration.keeping import Registration


class Registering:
    """Registered while `running`, until `withdraw`."""

    def __init__(self, registrations: Sequence[Registration]) -> None:
        self._registrations = registrations
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The node is registered, and stays so, for the length of the block or until `withdraw`."""
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(each.run()) for each in self._registrations]
            try:
                yield
            finally:
                await self.withdraw()

    def states(self) -> list[tuple[str, bool]]:
        """Every service, and whether it knows the node, in order."""
        return [
            (f"via.{place} ({each.service})", each.registered) for place, each in enumerate(self._registrations)
        ]  # fmt: skip

    async def withdraw(self) -> None:
        """Edges are to forget the node: returns once all services were told, or could not be. Again: does nothing."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            await asyncio.gather(*(each.withdraw() for each in self._registrations))
