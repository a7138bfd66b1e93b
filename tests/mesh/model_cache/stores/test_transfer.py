import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_cache.stores.object_source import Data
from mesh.model_cache.stores.objects import Object
from mesh.model_cache.stores.transfer import ByteRange, in_order, missing_parts

PARTS = [ByteRange(Object("a", 5, "e"), offset, 1) for offset in range(5)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=5), st.integers(1, 20))
def test_the_parts_are_just_what_is_missing(sizes: list[tuple[int, int]], part_bytes: int) -> None:
    objects = [Object(str(index), size, "e") for index, (size, _) in enumerate(sizes)]
    held = {str(index): min(size, have) for index, (size, have) in enumerate(sizes) if have}
    reached = {each.path: held.get(each.path, 0) for each in objects}
    for part in missing_parts(objects, held, part_bytes):
        assert 0 < part.length <= part_bytes
        assert part.offset == reached[part.object.path]
        reached[part.object.path] += part.length
    assert reached == {each.path: each.size for each in objects}


async def test_they_come_in_order_though_they_arrive_in_another() -> None:
    arrived = [asyncio.Event() for _ in PARTS]
    started: list[int] = []

    async def read(part: ByteRange) -> Data:
        started.append(part.offset)
        await arrived[part.offset].wait()
        return bytes([part.offset])

    async def collect() -> list[Data]:
        async with aclosing(in_order(PARTS, read, 3)) as arriving:
            return [data async for _, data in arriving]

    collecting = asyncio.ensure_future(collect())
    for offset in (2, 1):
        arrived[offset].set()
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert started == [0, 1, 2]  # the fourth waits until the first is taken
    for event in arrived:
        event.set()
    assert await collecting == [bytes([offset]) for offset in range(5)]
    assert started == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fails", range(5))
async def test_the_first_failure_ends_it_and_no_read_is_left(fails: int) -> None:
    running: set[int] = set()

    async def read(part: ByteRange) -> Data:
        running.add(part.offset)
        try:
            await asyncio.sleep(0)
            if part.offset == fails:
                raise ValueError("this one")
            if part.offset > fails:
                await asyncio.Event().wait()
            return b"x"
        finally:
            running.discard(part.offset)

    taken: list[ByteRange] = []

    async def collect() -> None:
        async with aclosing(in_order(PARTS, read, 3)) as arriving:
            async for part, _ in arriving:
                taken.append(part)

    with pytest.raises(ValueError, match="this one"):
        await collect()
    assert taken == PARTS[:fails]
    assert not running


async def test_a_cancellation_waits_for_the_reads_to_end() -> None:
    ended: list[int] = []

    async def read(part: ByteRange) -> Data:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(part.offset)
        return b""

    async def collect() -> None:
        async with aclosing(in_order(PARTS, read, 3)) as arriving:
            async for _ in arriving:
                raise AssertionError("nothing can have arrived")

    collecting = asyncio.ensure_future(collect())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    assert sorted(ended) == [0, 1, 2]
