"""Small files out of a store of models: whoever writes to it does not decide how much memory reading them takes."""

import errno
from pathlib import Path

MOST_BYTES = 4 << 20
"""Of a model's configuration; that of a model with thousands of inputs has some 100 KiB."""


def read_small(path: Path) -> bytes:
    """The whole file. Raises OSError, also for one of more than MOST_BYTES."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes", str(path))
    return data
