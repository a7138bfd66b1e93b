"""What a call leaves behind, with Python's garbage collector turned off: only what is freed by itself is gone."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection for the length of the block, and none is due at its beginning."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def still_there(kind: type[T]) -> list[T]:
    """All objects of that class that are on the heap."""
    return [each for each in gc.get_objects() if isinstance(each, kind)]
