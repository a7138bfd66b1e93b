"""A peer's time: counted while the loop listens, and not while it is busy."""

import asyncio

import pytest

from ext_proc.http2.aio.patience import Patience, patience
from integration import virtual_time


class BusyLoop(virtual_time.VirtualLoop):
    """Time also passes while a callback runs."""

    def busy(self, seconds: float) -> None:
        self._jumping.now += seconds


def run(case: object) -> None:
    with asyncio.Runner(loop_factory=BusyLoop) as runner:
        runner.run(case)  # type: ignore[arg-type]


def test_it_is_spent_after_its_seconds_and_once() -> None:
    async def case() -> None:
        loop, spent = asyncio.get_running_loop(), []
        Patience(2.0, lambda: spent.append(loop.time()))
        await asyncio.sleep(1.99)
        assert not spent
        await asyncio.sleep(60)
        assert spent == [pytest.approx(2.0)]

    run(case())


def test_it_is_not_spent_once_cancelled() -> None:
    async def case() -> None:
        spent: list[None] = []
        waited = Patience(2.0, lambda: spent.append(None))
        await asyncio.sleep(1.0)
        waited.cancel()
        await asyncio.sleep(60)
        assert not spent

    run(case())


def test_a_loop_that_is_busy_does_not_use_it_up() -> None:
    async def case() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BusyLoop)
        async with patience(1.0):
            for _ in range(10):
                loop.busy(30.0)
                await asyncio.sleep(0)

    run(case())


def test_what_takes_longer_ends() -> None:
    async def case() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with patience(1.0):
                await asyncio.Event().wait()
        assert loop.time() == pytest.approx(1.0)

    run(case())


def test_whoever_is_cancelled_meanwhile_is_cancelled() -> None:
    async def case() -> None:
        async def wait() -> None:
            async with patience(1.0):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(case())
