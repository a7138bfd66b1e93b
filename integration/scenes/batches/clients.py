"""Clients in a closed loop: each asks for one image, waits for the answer, and asks for the next."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc.aio

from integration.bench.open_loop import quantile
from integration.peers.clients.tf_serving import PREDICT, labels_of, predict_request
from integration.stack import models
from mesh.protos import tfs_pb2

SHARING = (("tloc", "10000;cross-request=1"),)
"""What a client says that has nothing against company."""


@dataclass
class Point:
    """So many clients, with or without batches: how many images were read, how many of them rightly, in what time."""

    clients: int
    batches: bool
    seconds: float = 0.0
    right: int = 0
    milliseconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Images a second."""
        return len(self.milliseconds) / self.seconds

    @property
    def median_ms(self) -> float:
        """Of a call."""
        return statistics.median(self.milliseconds)

    @property
    def p99_ms(self) -> float:
        """Of a call."""
        return quantile(self.milliseconds, 0.99)


async def point(channel: grpc.aio.Channel, model: str, clients: int, *, batches: bool, seconds: float) -> Point:
    """So many clients for so many seconds. Raises grpc.aio.AioRpcError if any call fails."""
    call = channel.unary_unary(
        PREDICT,
        request_serializer=tfs_pb2.PredictRequest.SerializeToString,
        response_deserializer=tfs_pb2.PredictResponse.FromString,
    )
    held = models.digits()[1]
    requests = [predict_request(model, held.images[row : row + 1]) for row in range(len(held.images))]
    made, begin = Point(clients, batches), time.monotonic()

    async def client(rows: Sequence[int]) -> None:
        for row in rows:
            sent = time.monotonic()
            reply = await call(requests[row], metadata=SHARING if batches else ())
            made.milliseconds.append(1000 * (time.monotonic() - sent))
            made.right += int(labels_of(reply)[0] == held.labels[row])
            if time.monotonic() - begin >= seconds:
                return

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client([(number + step * clients) % len(requests) for step in range(100_000)]))
    made.seconds = time.monotonic() - begin
    return made
