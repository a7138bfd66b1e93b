"""What the demo asks of a client library, whichever it is."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Endpoints:
    """Where calls are sent: a node's, or those of the Envoy before all. `grpc` is `ip:port`, `rest` a base URL."""

    grpc: str
    rest: str


@dataclass(frozen=True)
class Answer:
    """The digit on each image, and the whole reply as far as the library shows it, to compare with another reply."""

    labels: Labels
    reply: object


class ClientError(Exception):
    """A call was answered with an error; the message carries it."""


class Client(Protocol):
    """One client library. It knows nothing of tbms."""

    protocol: str
    library: str

    async def predict(self, endpoints: Endpoints, model: str, images: Images) -> Answer:
        """Asks a model for the digits on images [N, 64]. Raises ClientError."""
        ...

    async def close(self) -> None:
        """Closes its connections."""
        ...
