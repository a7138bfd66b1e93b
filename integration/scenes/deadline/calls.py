"""Calls with a limit: the held-out images, asked of the best model, with backups named or not."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc.aio

from ext_proc.broker.estimates import ENOUGH
from integration.bench.open_loop import GRACE_MS
from integration.peers.clients.client import Images
from integration.peers.clients.tf_serving import PREDICT, labels_of, predict_request
from integration.stack import models
from mesh.protos import tfs_pb2

IMAGES_A_CALL = 20
_RATE = 20.0
_WARM_UP_MS = 1000.0


@dataclass
class Point:
    """All the calls with one limit: which model answered how many of them in time, and what came of it."""

    limit_ms: float
    backups: bool
    calls: int = 0
    images: int = 0
    right: int = 0
    by_model: Counter[str] = field(default_factory=Counter)
    extra_work: float = 0.0
    """Time that backups worked / time that primaries worked."""

    @property
    def in_time(self) -> int:
        """How many calls were answered by the limit."""
        return self.by_model.total()

    @property
    def answered(self) -> float:
        """The share of the calls that were answered by the limit."""
        return self.in_time / self.calls

    @property
    def accuracy(self) -> float:
        """The share of all the images that were read rightly; one that got no answer was not."""
        return self.right / self.images


class Caller:
    """Sends TF Serving gRPC calls for `primary`, at a steady rate, whether earlier ones are answered or not."""

    def __init__(self, channel: grpc.aio.Channel, estimates_ms: Mapping[str, float]) -> None:
        """`estimates_ms`: what the client declares of each model, the best first."""
        self._call = channel.unary_unary(
            PREDICT,
            request_serializer=tfs_pb2.PredictRequest.SerializeToString,
            response_deserializer=tfs_pb2.PredictResponse.FromString,
        )
        self._primary, *self._backups = estimates_ms
        self._estimates_ms = estimates_ms

    async def warm_up(self) -> None:
        """Asks every model often enough for its live times to be known, as they are where calls come all day."""
        for model in self._estimates_ms:
            for number in range(ENOUGH):
                headers = [("tloc", f"{_WARM_UP_MS:g}")]
                await self._call(predict_request(model, _images(number)[0]), metadata=headers, timeout=_WARM_UP_MS)

    async def point(self, limit_ms: float, *, backups: bool, calls: int) -> Point:
        """Makes `calls` calls with one limit, each with the next images."""
        point, begin = Point(limit_ms, backups), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                await asyncio.sleep(max(0.0, begin + number / _RATE - time.monotonic()))
                group.create_task(self._ask(number, point))
        return point

    async def _ask(self, number: int, point: Point) -> None:
        images, labels = _images(number)
        point.calls += 1
        point.images += len(images)
        call, begin = (
            self._call(predict_request(self._primary, images), metadata=self._headers(point)),
            time.monotonic(),
        )
        try:
            reply = await call
        except grpc.aio.AioRpcError:
            return
        if 1000 * (time.monotonic() - begin) <= point.limit_ms + GRACE_MS:
            who = str(dict(await call.initial_metadata())["tbms-answer"])
            point.by_model[who.partition(";")[0]] += 1
            point.right += int((labels_of(reply) == labels).sum())

    def _headers(self, point: Point) -> list[tuple[str, str]]:
        # An estimate over the limit would be refused: such a model could never answer.
        declared = {model: f"est={min(ms, point.limit_ms):g}" for model, ms in self._estimates_ms.items()}
        headers = [("tloc", f"{point.limit_ms:g};{declared[self._primary]}")]
        if point.backups:
            headers.append(("backup", ", ".join(f"{model};{declared[model]}" for model in self._backups)))
        return headers


def _images(number: int) -> tuple[Images, models.Labels]:
    """The images of one call; the last call of a point may wrap round."""
    held = models.digits()[1]
    rows = range(number * IMAGES_A_CALL, (number + 1) * IMAGES_A_CALL)
    return held.images.take(rows, axis=0, mode="wrap"), held.labels.take(rows, mode="wrap")
