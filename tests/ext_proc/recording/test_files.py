"""The files of a recording: bounded in size and number, and read in their order."""

from pathlib import Path

import pytest

from ext_proc.errors import TbmsError
from ext_proc.recording.calls import Portion, RecordedCall, RecordedFleet, RecordedNode, Way
from ext_proc.recording.files import RecordingFolder, files_of, is_recording, read_recording

FLEET = RecordedFleet((RecordedNode("node-a", slots=3),))


def portion(at: float, fleet: RecordedFleet | None = None) -> Portion:
    return Portion((RecordedCall(at, "bert", Way.DECIDED, node="node-a"),), fleet)


def times(*paths: Path) -> list[float]:
    return [call.at for part in read_recording(paths) for call in part.calls]


def test_full_files_make_room_for_new_ones_and_the_oldest_go(tmp_path: Path) -> None:
    files = RecordingFolder(tmp_path, file_bytes=200, files=3)
    files.append(portion(1.0, FLEET))
    for number in range(2, 60):
        files.append(portion(float(number)))
    files.close()
    kept = files_of(tmp_path)
    assert len(kept) == 3
    assert all(file.stat().st_size < 400 for file in kept)
    found = times(tmp_path)
    assert found == [float(number) for number in range(60 - len(found), 60)]
    # Each says all by itself.
    assert all(next(iter(read_recording([file]))).fleet == FLEET for file in kept)


def test_a_process_that_starts_again_leaves_a_torn_file_as_it_is(tmp_path: Path) -> None:
    first = RecordingFolder(tmp_path, 1 << 20, 5)
    first.append(portion(1.0))
    first.append(portion(2.0))
    first.close()
    (torn,) = files_of(tmp_path)
    torn.write_bytes(torn.read_bytes()[:-3])
    second = RecordingFolder(tmp_path, 1 << 20, 5)
    second.append(portion(3.0))
    second.close()
    assert times(tmp_path) == [1.0, 3.0]


def test_recordings_of_several_edges_are_read_by_time(tmp_path: Path) -> None:
    for name, at in (("a", (1.0, 4.0)), ("b", (2.0, 3.0))):
        folder = RecordingFolder(tmp_path / name, 1 << 20, 5)
        for each in at:
            folder.append(portion(each))
        folder.close()
    assert times(tmp_path / "a", tmp_path / "b") == [1.0, 2.0, 3.0, 4.0]


def test_after_a_failed_write_a_new_file_begins(tmp_path: Path) -> None:
    folder = RecordingFolder(tmp_path / "there", 1 << 20, 5)
    (tmp_path / "there").write_text("no folder")
    with pytest.raises(OSError, match="there"):
        folder.append(portion(1.0))
    (tmp_path / "there").unlink()
    folder.append(portion(2.0))
    folder.close()
    assert times(tmp_path / "there") == [2.0]


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text('{"event": "race"}\n')
    assert not is_recording(log)
    with pytest.raises(TbmsError, match=r"server\.log: is no recording"):
        times(log)
    with pytest.raises(TbmsError, match="calls-NUMBER"):
        times(tmp_path)
    with pytest.raises(TbmsError, match="cannot be read"):
        is_recording(tmp_path / "none")
