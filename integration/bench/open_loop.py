"""An open-loop load generator in a process of its own: `python -m integration.bench.open_loop PLAY.json`.

Calls are sent when the trace says, however many are still unanswered, and each one's latency counts from then: a call
that this process sends late is late. They take turns among the protocols of TF Serving.
"""

import asyncio
import gc
import json
import math
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc.aio
import uvloop

from integration.bench.http1 import Connections, HttpError, post
from integration.stack.process import output_of
from mesh.protos import tfs_pb2

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
# An answer that is this late at the client counts as given by the limit (ms): the way there and back is part of it.
GRACE_MS = 5.0
_LEAD = 0.5  # seconds from the process's readiness to the first call


@dataclass(frozen=True)
class Play:
    """What is sent: to `target` (`ip:port`), for `model`, each call at its second with headers of its own.

    A call that is not answered after `timeout` seconds is given up. `protocols`: "grpc" and "rest", in turn.
    `begin`: the start of the trace on this machine's monotonic clock; None: as soon as the process is ready.
    With `paths` and a `body` REST calls are that, taking turns among the paths, in place of TF Serving's.
    """

    target: str
    model: str
    timeout: float
    calls: Sequence[tuple[float, Mapping[str, str]]]
    protocols: Sequence[str] = ("grpc", "rest")
    begin: float | None = None
    paths: Sequence[str] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One call: ms from its intended time to its end, whether that was an answer, and how late it was sent (ms)."""

    ms: float
    answered: bool
    sent_late_ms: float


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least `share` of them do not exceed. Raises ValueError if there is none."""
    ascending = sorted(values)
    if not ascending:
        raise ValueError("no values, no quantile")
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def answered_within(samples: Sequence[Sample], limit_ms: float) -> float:
    """The share of the calls that had an answer, not an error, by the limit and the grace."""
    return sum(sample.answered and sample.ms <= limit_ms + GRACE_MS for sample in samples) / len(samples)


def overshoots(samples: Iterable[Sample], limit_ms: float) -> list[float]:
    """How long after the limit each call ended, in ms, answer or error; 0 for those before it."""
    return [max(0.0, sample.ms - limit_ms) for sample in samples]


class _Generator:
    def __init__(self, play: Play) -> None:
        self._play = play
        self._samples: list[Sample | None] = [None] * len(play.calls)
        request = tfs_pb2.PredictRequest()
        request.model_spec.name = play.model
        tensor = request.inputs["x"]
        tensor.dtype = tfs_pb2.DT_FLOAT
        for size in (1, 64):  # one row, as in the body for REST
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = bytes(256)
        self._message = request.SerializeToString()
        body = (play.body or json.dumps({"instances": [[0.25] * 64]})).encode()
        paths = play.paths or [f"/v1/models/{play.model}:predict"]
        json_type = {"content-type": "application/json"}
        self._requests = [
            post(play.target, paths[number % len(paths)], {**headers, **json_type}, body)
            for number, (_, headers) in enumerate(play.calls)
        ]

    async def run(self) -> list[Sample]:
        loop, tasks = asyncio.get_running_loop(), asyncio.TaskGroup()
        host, _, port = self._play.target.rpartition(":")
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(self._play.target))
            http = stack.enter_context(closing(Connections(host, int(port))))
            call, sent = channel.unary_unary(_PREDICT), asyncio.Event()
            if "grpc" in self._play.protocols:
                await asyncio.wait_for(channel.channel_ready(), 10)

            async def one(number: int, due: float) -> None:
                late = time.monotonic() - due
                headers = self._play.calls[number][1]
                protocol = self._play.protocols[number % len(self._play.protocols)]
                try:
                    async with asyncio.timeout(self._play.timeout - late):
                        answered = await (self._rest(http, number) if protocol == "rest" else self._grpc(call, headers))
                except TimeoutError:
                    answered = False
                self._samples[number] = Sample(1000 * (time.monotonic() - due), answered, 1000 * late)

            def begin_one(number: int, due: float) -> None:
                tasks.create_task(one(number, due))

            def pace() -> None:
                # A thread that sleeps is on time to a tenth of a millisecond; a loop's timers have whole ones.
                begin = time.monotonic() + _LEAD if self._play.begin is None else self._play.begin
                for number, (at, _) in enumerate(self._play.calls):
                    time.sleep(max(0.0, begin + at - time.monotonic()))
                    loop.call_soon_threadsafe(begin_one, number, begin + at)
                loop.call_soon_threadsafe(sent.set)

            async with tasks:
                threading.Thread(target=pace, daemon=True).start()
                await sent.wait()
        return [sample for sample in self._samples if sample is not None]

    async def _grpc(self, call: grpc.aio.UnaryUnaryMultiCallable, headers: Mapping[str, str]) -> bool:
        try:
            await call(self._message, metadata=tuple(headers.items()))
        except grpc.aio.AioRpcError:
            return False
        return True

    async def _rest(self, http: Connections, number: int) -> bool:
        try:
            return await http.call(self._requests[number]) == 200
        except (HttpError, OSError):
            return False


async def open_loop(play: Play, folder: Path) -> list[Sample]:
    """Plays it in a process of its own, with its files in `folder`. Raises ProcessError if that fails."""
    file = folder / "play.json"
    file.write_text(json.dumps(asdict(play)))
    command = [sys.executable, "-m", "integration.bench.open_loop", str(file)]
    samples = json.loads(await output_of("load generator", command, folder / "load.log"))
    return [Sample(*sample) for sample in samples]


def main() -> None:
    """Plays a file; prints the samples as JSON."""
    play = Play(**json.loads(Path(sys.argv[1]).read_text()))
    gc.freeze()
    gc.disable()  # a pause of the collector would be measured as lateness of the answer
    samples = uvloop.run(_Generator(play).run())
    print(json.dumps([(sample.ms, sample.answered, sample.sent_late_ms) for sample in samples]))


if __name__ == "__main__":
    main()
