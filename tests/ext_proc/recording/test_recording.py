"""The shell of the recording: what is lost where it cannot be written, and what is not."""

import asyncio
from pathlib import Path

from ext_proc.recording.files import RecordingFolder, read_recording
from ext_proc.recording.recorder import Recorder
from ext_proc.recording.recording import Recording
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

NODE = Node("a", rest="10.0.0.1:1")


def recording_in(folder: Path, seconds: float = 3600.0) -> Recording:
    load_waits = LoadWaits()
    router = Router(RoutingSettings(), CacheMap(), load_waits)
    router.update([NODE])
    recorder = Recorder(router, load_waits, lambda node_id: None, {}, 1000.0)
    return Recording(recorder, RecordingFolder(folder, 1 << 20, 4), seconds, asyncio.get_running_loop().time)


def call(recording: Recording, model: str) -> None:
    recording.recorder.decided((model, None, None), NODE, None, float("inf"), 0, 1.0)


def models_in(folder: Path) -> list[str]:
    return [each.model for portion in read_recording([folder]) for each in portion.calls]


async def test_what_came_until_the_end_is_written(tmp_path: Path) -> None:
    recording = recording_in(tmp_path)
    async with recording.running():
        call(recording, "bert")
    assert models_in(tmp_path) == ["bert"]
    assert recording.failures == 0


async def test_what_cannot_be_written_is_counted_and_the_next_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.write_text("no folder")
    recording = recording_in(folder, seconds=0.001)
    async with recording.running():
        call(recording, "lost")
        while not recording.failures:
            await asyncio.sleep(0.001)
        folder.unlink()
        call(recording, "kept")
        while not folder.is_dir():
            await asyncio.sleep(0.001)
    assert models_in(folder) == ["kept"]
