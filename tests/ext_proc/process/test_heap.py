"""When the heap is gone over: in quiet moments, and before it grows without end."""

import gc
from collections.abc import Iterator

import pytest

from ext_proc.process.heap import Heap


class Process:
    """What a process has seen, and the blocks on its heap."""

    calls = 0
    open_calls = 0
    size = 1000


class Circle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def heap(process: Process) -> Iterator[Heap]:
    heap = Heap(lambda: process.calls, lambda: process.open_calls, lambda: process.size)
    try:
        yield heap
    finally:
        heap.release()
        gc.unfreeze()


def circles() -> int:
    return sum(isinstance(each, Circle) for each in gc.get_objects())


def leave_circles() -> None:
    gc.collect()
    gc.disable()  # so that it is the heap that finds them
    for _ in range(10):
        Circle()
    gc.enable()
    assert circles() == 10


def test_the_interpreter_makes_no_full_collection_until_the_heap_is_released(heap: Heap) -> None:
    before = gc.get_stats()[2]["collections"]
    kept = [[] for _ in range(200_000)]
    assert gc.get_stats()[2]["collections"] == before
    heap.release()
    kept += [[] for _ in range(200_000)]
    assert gc.get_stats()[2]["collections"] > before


def test_an_idle_process_collects_once_there_is_something(heap: Heap, process: Process) -> None:
    leave_circles()
    assert not heap.look(), "the heap is as it was"
    process.size, process.calls = 1100, 1
    assert not heap.look(), "a call has come since the last look"
    process.open_calls = 1
    assert not heap.look(), "a call is open"
    process.open_calls = 0
    assert heap.look()
    assert circles() == 0
    assert not heap.look(), "nothing has happened since"
    process.size = 1000
    assert heap.look(), "what it was emptied of may have left circles"


def test_a_busy_one_collects_only_once_its_heap_has_doubled(heap: Heap, process: Process) -> None:
    leave_circles()
    for size, collects in ((1100, False), (1999, False), (2000, True), (2100, False), (3999, False), (4000, True)):
        process.calls += 1
        process.size = size
        assert heap.look() is collects
    assert circles() == 0
