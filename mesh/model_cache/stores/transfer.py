"""The transfer of a model: many ranged reads at once, and one ordered stream of parts out of them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mesh.model_cache.stores.object_source import Data
from mesh.model_cache.stores.objects import Object


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes of a file from `offset`."""

    object: Object
    offset: int
    length: int


def missing_parts(objects: Iterable[Object], held: Mapping[str, int], part_bytes: int) -> Iterator[ByteRange]:
    """Pure: what is still to be read, file by file in order; `held` are the bytes in place at each file's start."""
    for each in objects:
        for offset in range(held.get(each.path, 0), each.size, part_bytes):
            yield ByteRange(each, offset, min(part_bytes, each.size - offset))


async def in_order(
    parts: Iterable[ByteRange], read: Callable[[ByteRange], Awaitable[Data]], ahead: int
) -> AsyncGenerator[tuple[ByteRange, Data], None]:
    """The parts with their bytes, in the given order, with at most `ahead` of them being read or waiting.

    In order, so that what is on the disk of a file is always its start and its size says all about how far it came.
    The first read that fails ends it. Close the iterator (`aclosing`): then no read is left running.
    """
    reads: deque[tuple[ByteRange, asyncio.Future[Data]]] = deque()
    waiting = iter(parts)
    try:
        while True:
            while len(reads) < ahead and (part := next(waiting, None)):
                reads.append((part, asyncio.ensure_future(read(part))))
            if not reads:
                return
            part, result = reads[0]
            data = await result
            reads.popleft()
            yield part, data
    finally:
        for _, result in reads:
            result.cancel()
        await asyncio.gather(*(result for _, result in reads), return_exceptions=True)
