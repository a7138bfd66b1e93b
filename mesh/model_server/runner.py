"""Running models: inferences, and the conversion of large messages, in threads that leave the event loop free."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TypeVar

from mesh.model_server.errors import ServingError
from mesh.model_server.loaded_models import ModelVersion
from mesh.tensors.dtypes import Array

T = TypeVar("T")

#: Messages below this size (bytes) are converted on the event loop: cheaper than a thread's turn.
INLINE_BYTES = 32 * 1024


class Runner:
    """Runs the models of one server, `threads` inferences at once. All methods belong to one event loop.

    `delay_ms` is added to each inference, on top of the model's own delay.
    """

    def __init__(self, *, threads: int = 2, delay_ms: float = 0.0) -> None:
        self._delay = delay_ms / 1000
        self._dice = Random(0)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="infer")

    async def infer(
        self, version: ModelVersion, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Run a version that the caller holds a lease of; the outputs by name, in the order asked for.

        Raises ServingError. A caller that is cancelled leaves the running thread to end by itself.
        """
        model = version.model
        assert model is not None, "infer without a lease"
        arrived = time.perf_counter_ns()

        def run() -> tuple[int, int, list[Array]]:
            begun = time.perf_counter_ns()
            results = model.run(inputs, outputs)
            return begun, time.perf_counter_ns(), results

        delay = self._delay + version.knobs.delay(self._dice)
        if delay:
            await asyncio.sleep(delay)
        loop = asyncio.get_running_loop()
        job = self._pool.submit(run)
        version.acquire()  # until the thread is done, even if the caller is gone by then
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(version.release))
        try:
            begun, ended, results = await asyncio.wrap_future(job)
        except ServingError:
            version.statistics.failed(time.perf_counter_ns() - arrived)
            raise
        version.statistics.succeeded(time.time_ns() // 1_000_000, begun - arrived, ended - begun)
        return dict(zip(outputs, results, strict=True))

    async def offload(self, size: int, work: Callable[[], T]) -> T:
        """Convert a message of `size` bytes: here if it is small, in a thread if it would hold up the event loop."""
        if size < INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def close(self) -> None:
        """Wait for the threads. No call may be in flight."""
        await asyncio.to_thread(self._pool.shutdown)
