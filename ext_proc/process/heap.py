"""The heap of a process that answers calls."""

import gc


def settle() -> None:
    """Leaves what there is out of every later collection: to be called once all that lives for good is made.

    A collection of all of it would hold up every call for the time of a limit (70 ms were seen).
    """
    gc.collect()
    gc.freeze()
