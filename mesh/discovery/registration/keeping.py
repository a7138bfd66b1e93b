"""Keeping a node registered: one loop for every service, which differ in how an entry is written and renewed."""

import asyncio
import logging
import random
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mesh.back_off import RetryDelays
from mesh.errors import MeshError
from mesh.json_http import JsonHttp

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds until a failed registration is tried again


class Entry(Protocol):
    """What stands of the node in one service. All methods raise MeshError, OSError or TimeoutError."""

    service: str
    """What the service is called in logs and metrics."""
    length: float
    """Seconds for which the entry stands without being renewed."""

    def connected(self, attempt: int) -> AbstractAsyncContextManager[JsonHttp]:
        """A session with the service; `attempt` counts those that failed."""

    async def write(self, http: JsonHttp) -> None:
        """Write the entry anew."""

    async def renewed(self, http: JsonHttp) -> bool:
        """Renew it. False if it is not there, or not as we wrote it."""

    async def remove(self, http: JsonHttp) -> None:
        """Take it back, unless somebody else has written it since."""


class Registration:
    """Keeps the node known to one service: the entry is renewed three times within its length, one that was lost is
    written anew, and what fails is logged and tried again."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._attempt = 0
        self._written = False
        self.registered = False
        """Whether the last word of the service was that the entry stands."""

    @property
    def service(self) -> str:
        """What the service is called in logs and metrics."""
        return self._entry.service

    async def run(self) -> None:
        """Until cancelled."""
        delays = RetryDelays(_FIRST_PAUSE, _LONGEST_PAUSE, random.random)
        while True:
            try:
                async with self._entry.connected(self._attempt) as http:
                    while True:
                        await self._stand(http)
                        delays.reset()
                        await asyncio.sleep(self._entry.length / 3)
            except (OSError, TimeoutError, MeshError) as error:
                self.registered = False
                self._attempt += 1
                pause = next(delays)
                logger.warning(
                    "cannot register",
                    extra={"service": self.service, "cause": str(error), "retry_seconds": round(pause, 1)},
                )
                await asyncio.sleep(pause)

    async def withdraw(self) -> None:
        """Edges are to forget the node. To be called once `run` has ended; what fails is logged."""
        self.registered = False
        if not self._written:
            return
        self._written = False
        try:
            async with self._entry.connected(self._attempt) as http:
                await self._entry.remove(http)
                logger.info("withdrawn", extra={"service": self.service})
        except (OSError, TimeoutError, MeshError) as error:
            logger.warning("cannot withdraw", extra={"service": self.service, "cause": str(error)})

    async def _stand(self, http: JsonHttp) -> None:
        if not (self._written and await self._entry.renewed(http)):
            self._written = True  # before it is known: a reply that is lost may have been a yes
            await self._entry.write(http)
            logger.info("registered", extra={"service": self.service})
        self.registered = True
