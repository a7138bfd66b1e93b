"""Files out of a store are read up to a size."""

from pathlib import Path

import pytest

from mesh.model_server.errors import ServingError
from mesh.model_server.repository import KNOBS_FILE, knobs
from mesh.small_file import MOST_BYTES, read_small


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * MOST_BYTES)
    assert len(read_small(file)) == MOST_BYTES
    file.write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(OSError, match="larger than 4194304 bytes"):
        read_small(file)


def test_knobs_of_any_size_are_refused_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / KNOBS_FILE).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ServingError, match=r"not a valid tbms.json: .* larger than"):
        knobs(tmp_path)
