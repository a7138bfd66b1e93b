"""What the parameters of a V2 request, by name, keep it from: sharing a batch. All others must be equal to share one.

Source: Triton's extensions for sequences, classification and shared memory.
"""

from collections.abc import Iterable

from ext_proc.wire.batch import AloneReason, NotShared


def check_request(names: Iterable[str]) -> None:
    """Raises NotShared for a request that is part of a sequence."""
    if any(name.startswith("sequence_") for name in names):
        raise NotShared(AloneReason.SEQUENCE)


def check_tensor(names: Iterable[str]) -> None:
    """Raises NotShared for an input or a requested output in shared memory, and for an output as classes."""
    for name in names:
        if name == "classification":
            raise NotShared(AloneReason.CLASSIFICATION)
        if name.startswith("shared_memory_"):
            raise NotShared(AloneReason.SHARED_MEMORY)
