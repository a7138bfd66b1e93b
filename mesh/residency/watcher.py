"""The residency watches: follow the residency stream of every node, and keep the cache map true to it."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from random import Random

import aiohttp

from mesh.back_off import RetryDelays
from mesh.node import Node
from mesh.per_node_tasks import PerNodeTasks
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.line import Heard, ResidencyError
from mesh.residency.load_waits import LoadWaits
from mesh.residency.settings import ResidencySettings
from mesh.residency.stream import residency_stream
from mesh.system_words import system_words

logger = logging.getLogger(__name__)


class _WatchedNode:
    """What was heard last of one node, or why it is not heard."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.heard: Heard | None = None
        """The line that came last; None while there is no stream."""
        self.cause: str | None = None
        self.lost_at: float | None = None
        """Since when (seconds of the clock) a node that has announced that it goes is not heard any more."""


class ResidencyWatches:
    """One watch for each node that names a residency endpoint. `update` may be called at any time, `run` once.

    While a node's stream lasts, the cache map holds what it says; when it is lost, the map forgets the node, so that
    the ring alone decides, and what the node says in its replies (`hints`). Only of a node that has announced that
    it goes this is remembered for `gone` seconds.

    `may_hang_up` says of a leaving node whether this edge has no more need of it: then the stream is ended, which is
    what the node waits for before it stops. `load_waits` learns what loads take. `clock` is monotonic, in seconds; what
    is written to `hints` and `load_waits` has its time.
    """

    def __init__(
        self,
        settings: ResidencySettings,
        cache_map: CacheMap,
        seed: int,
        may_hang_up: Callable[[str], bool] = lambda _: False,
        hints: ReplyHints | None = None,
        load_waits: LoadWaits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._cache_map = cache_map
        self._random = Random(seed)
        self._may_hang_up = may_hang_up
        self._hints = ReplyHints(cache_map, settings.remember) if hints is None else hints
        self._load_waits = LoadWaits() if load_waits is None else load_waits
        self._clock = clock
        self._nodes = PerNodeTasks("residency", lambda node: node.residency, _WatchedNode, self._keep_watching)
        self._session: aiohttp.ClientSession | None = None

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on. Comes after the router's update, which forgets the nodes that went."""
        nodes = tuple(nodes)
        for gone in self._nodes.update(nodes):
            self._forget(gone)
            self._hints.heard(gone.node.id)
        for node in nodes:
            if self._nodes.get(node.id) is not None and not self._cache_map.is_live(node.id):
                self._hints.silence(node)

    def heard(self, node_id: str) -> Heard | None:
        """The last line of that node; None while it is not heard."""
        watched = self._nodes.get(node_id)
        return None if watched is None else watched.heard

    def cause(self, node_id: str) -> str | None:
        """Why the node is not heard."""
        watched = self._nodes.get(node_id)
        return None if watched is None else watched.cause

    async def run(self) -> None:
        """Follow the nodes until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, connect=self._settings.silence, sock_read=self._settings.silence)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as self._session:
            await self._nodes.run()

    async def _keep_watching(self, watched: _WatchedNode) -> None:
        assert self._session is not None
        delays = RetryDelays(self._settings.retry, self._settings.retry_most, self._random.random)
        while True:
            try:
                async with residency_stream(self._session, watched.node, self._settings.silence) as lines:
                    async for heard in lines:
                        delays.reset()
                        self._take(watched, heard)
                        if heard.leaving and self._may_hang_up(watched.node.id):
                            delays.hold_off()
                            break
                leaving = watched.heard is not None and watched.heard.leaving
                cause = "It is leaving." if leaving else "The stream ended."
            except (aiohttp.ClientError, OSError, TimeoutError, ResidencyError) as error:
                cause = system_words(error) or "Nothing was heard in time."
            self._lost(watched, cause)
            await asyncio.sleep(next(delays))

    def _take(self, watched: _WatchedNode, heard: Heard) -> None:
        node_id = watched.node.id
        if watched.heard is None:
            logger.info("residency is heard", extra={"node": node_id, "models": len(heard.models)})
        watched.heard, watched.cause, watched.lost_at = heard, None, None
        self._hints.heard(node_id)
        if heard.full:
            self._cache_map.snapshot(node_id, heard.models)
        else:
            for model, state in heard.models.items():
                self._cache_map.change(node_id, model, state)
        self._cache_map.leave(node_id, heard.leaving)
        waits = self._load_waits
        waits.told(node_id, heard.models, heard.load_seconds, heard.default_load_seconds, self._clock())

    def _lost(self, watched: _WatchedNode, cause: str) -> None:
        now = self._clock()
        if watched.heard is not None:
            logger.log(
                logging.INFO if watched.heard.leaving else logging.WARNING,
                "residency is no longer heard",
                extra={"node": watched.node.id, "cause": cause},
            )
            if watched.heard.leaving:
                watched.lost_at = now
        watched.heard, watched.cause = None, cause
        if watched.lost_at is not None and now - watched.lost_at < self._settings.gone:
            self._cache_map.snapshot(watched.node.id, {})
            return
        watched.lost_at = None
        self._forget(watched)
        self._hints.silence(watched.node)
        self._hints.expire(watched.node.id, now)

    def _forget(self, watched: _WatchedNode) -> None:
        self._load_waits.forget(watched.node.id)
        if self._cache_map.is_live(watched.node.id):
            self._cache_map.forget(watched.node.id)
            self._cache_map.declare(watched.node.id, watched.node.models)
