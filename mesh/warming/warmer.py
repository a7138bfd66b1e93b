"""The warmer: asks nodes to load what the warm-up plan says, ahead of calls."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from mesh.digits import number
from mesh.node import Node
from mesh.system_words import system_words
from mesh.warming.load_requests import WarmUp
from mesh.warming.plan import WarmPlan

logger = logging.getLogger(__name__)

STEP = 0.1
"""Seconds between two looks at the plan."""
LONGEST = 600.0
"""Seconds that one load may take: a node that is still at it then has lost its edge's interest."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node did not load a model, and after how many seconds it may be asked again, where it says so."""

    cause: str
    again: float = math.inf


class Warmer:
    """Asks over HTTP, one request for each load; a node answers when the model is there, or cannot be.

    `clock` is the one that the router is asked with, monotonic, in seconds.
    """

    def __init__(self, plan: WarmPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._addresses: dict[str, str] = {}
        self.asked = 0
        """Loads asked for since the start."""
        self.refused = 0
        """Those of them that did not come about."""

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on."""
        self._addresses = {node.id: node.residency for node in nodes if node.residency is not None}

    async def run(self) -> None:
        """Follow the plan until cancelled."""
        timeout = aiohttp.ClientTimeout(total=LONGEST, sock_connect=5.0)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                for warm_up in self._plan.next(self._clock()):
                    self.asked += 1
                    tasks.create_task(self._warm(session, warm_up), name=f"warm {warm_up.model}")
                await asyncio.sleep(STEP)

    async def _warm(self, session: aiohttp.ClientSession, warm_up: WarmUp) -> None:
        refusal = await self._ask(session, warm_up)
        if refusal is not None:
            self.refused += 1
            extra = {"node": warm_up.node_id, "model": warm_up.model, "cause": refusal.cause}
            logger.info("a model was not warmed", extra=extra)
            self._plan.ended(warm_up, False, self._clock(), refusal.again)
        else:
            self._plan.ended(warm_up, True, self._clock())

    async def _ask(self, session: aiohttp.ClientSession, warm_up: WarmUp) -> Refusal | None:
        """Why the node did not load the model; None if it did."""
        address = self._addresses.get(warm_up.node_id)
        if address is None:
            return Refusal("The node is no longer known.")
        url = f"http://{address}/models/{quote(warm_up.model, safe='')}/warm"
        try:
            params = {"room": "free"} if warm_up.into_free_room else {}
            async with session.post(url, params=params, allow_redirects=False) as reply:
                if reply.status == 200:
                    return None
                return Refusal(f"The node answers {reply.status}.", _seconds(reply.headers.get("retry-after", "")))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Refusal(system_words(error) or "It took too long.")


def _seconds(text: str) -> float:
    """What a `retry-after` says; infinite where it says nothing."""
    seconds = number(text, 5)
    return math.inf if seconds is None else max(1.0, seconds)
