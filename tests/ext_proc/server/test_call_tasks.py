"""Tasks of calls: waited for at the end, cancelled where the block fails, and a failure of one is no other's."""

import asyncio
import logging

import pytest

from ext_proc.server.call_tasks import CallTasks
from integration.virtual_time import run


def test_those_that_still_run_at_the_end_are_waited_for() -> None:
    async def check() -> None:
        ended: list[int] = []

        async def work(number: int) -> None:
            await asyncio.sleep(number)
            ended.append(number)
            if number == 2:
                tasks.create_task(work(3))

        async with CallTasks() as tasks:
            for number in (2, 1):
                tasks.create_task(work(number))
        assert ended == [1, 2, 3]

    run(check())


def test_where_the_block_fails_they_are_cancelled() -> None:
    async def check() -> None:
        made: list[asyncio.Task[None]] = []

        async def block() -> None:
            async with CallTasks() as tasks:
                made.append(tasks.create_task(asyncio.sleep(1e6)))
                raise KeyError

        with pytest.raises(KeyError):
            await block()
        assert made[0].cancelled()

    run(check())


def test_one_that_fails_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async def fail() -> None:
            raise ValueError("the cause")

        async with CallTasks() as tasks:
            tasks.create_task(fail())
            other = tasks.create_task(asyncio.sleep(1.0))
        assert other.done()
        assert not other.cancelled()

    with caplog.at_level(logging.ERROR):
        run(check())
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("the cause",)
    ]
