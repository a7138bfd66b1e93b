"""The shell of the recording: what the recorder has taken down is written now and then, off the event loop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from ext_proc.recording.files import RecordingFolder
from ext_proc.recording.recorder import Recorder

logger = logging.getLogger(__name__)


class Recording:
    """Writes while `running`, every `seconds`. What cannot be written is lost, and counted. `clock` monotonic."""

    def __init__(self, recorder: Recorder, folder: RecordingFolder, seconds: float, clock: Callable[[], float]) -> None:
        self.recorder = recorder
        self._folder = folder
        self._seconds = seconds
        self._clock = clock
        self.failures = 0
        """Portions that could not be written."""
        self._fails = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For the length of the block; what has come until its end is written."""
        stop = asyncio.Event()
        # Not cancelled: a portion that is on its way to the disk is there before the next one is written.
        task = asyncio.create_task(self._run(stop), name="recording")
        try:
            yield
        finally:
            stop.set()
            await task
            await asyncio.to_thread(self._folder.close)

    async def _run(self, stop: asyncio.Event) -> None:
        last = False
        while not last:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await stop.wait()
            last = stop.is_set()
            await self._write()

    async def _write(self) -> None:
        portion = self.recorder.take(self._clock())
        if not (portion.calls or portion.fleet or portion.loads):
            return
        try:
            await asyncio.to_thread(self._folder.append, portion)
        except Exception as error:  # no call is to suffer from its recording, whatever is wrong with that
            self.failures += 1
            if not self._fails:
                logger.error("calls cannot be recorded", extra={"cause": repr(error)})
            self._fails = True
        else:
            self._fails = False
