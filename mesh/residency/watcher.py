"""The residency watches: follow what every node says that it holds, and keep the cache map true to it."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from random import Random

import aiohttp

from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.line import Heard, ResidencyError
from mesh.residency.load_waits import LoadWaits
from mesh.residency.settings import ResidencySettings
from mesh.residency.stream import residency_stream

logger = logging.getLogger(__name__)


class _Watch:
    """What is kept for one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.task: asyncio.Task[None] | None = None
        self.heard: Heard | None = None
        """The line that came last; None while there is no stream."""
        self.cause: str | None = None
        self.lost_at: float | None = None
        """Since when (seconds of the loop) a node that has announced that it goes is not heard any more."""


class ResidencyWatches:
    """One watch for each node that names a residency endpoint. `update` may be called at any time, `run` once.

    While a node's stream lasts, the cache map holds what it says; when it is lost, the map forgets the node, so that
    the ring alone decides, and what the node says in its replies (`hints`). Only of a node that has announced that
    it goes this is remembered for `gone` seconds.

    `may_hang_up` says of a leaving node whether this edge has no more need of it: then the stream is ended, which is
    what the node waits for before it stops. `load_waits` learns what loads take. It and `hints` go by `clock`.
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
        self._watches: dict[str, _Watch] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._session: aiohttp.ClientSession | None = None

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on. Comes after the router's update, which forgets the nodes that went."""
        fresh = {node.id: node for node in nodes}
        for node_id, watch in list(self._watches.items()):
            address = watch.node.residency
            watch.node = fresh.get(node_id, watch.node)
            if node_id not in fresh or watch.node.residency != address:
                del self._watches[node_id]
                if watch.task is not None:
                    watch.task.cancel()
                self._forget(watch)
                self._hints.heard(node_id)
        for node_id, node in fresh.items():
            if node_id not in self._watches and node.residency is not None:
                self._watches[node_id] = _Watch(node)
                self._start(self._watches[node_id])
            if node_id in self._watches and not self._cache_map.is_live(node_id):
                self._hints.silence(node)

    def heard(self, node_id: str) -> Heard | None:
        """The last line of that node; None while it is not heard."""
        watch = self._watches.get(node_id)
        return None if watch is None else watch.heard

    def cause(self, node_id: str) -> str | None:
        """Why the node is not heard."""
        watch = self._watches.get(node_id)
        return None if watch is None else watch.cause

    async def run(self) -> None:
        """Follow the nodes until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, connect=self._settings.silence, sock_read=self._settings.silence)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as self._session:
            try:
                async with asyncio.TaskGroup() as self._tasks:
                    for watch in self._watches.values():
                        self._start(watch)
                    await asyncio.get_running_loop().create_future()  # nothing ends this but a cancellation
            finally:
                self._tasks = None

    def _start(self, watch: _Watch) -> None:
        if self._tasks is not None:
            watch.task = self._tasks.create_task(self._keep_watching(watch), name=f"residency {watch.node.id}")

    async def _keep_watching(self, watch: _Watch) -> None:
        assert self._session is not None
        pause = self._settings.retry
        while True:
            try:
                async with residency_stream(self._session, watch.node, self._settings.silence) as lines:
                    async for heard in lines:
                        pause = self._settings.retry
                        self._take(watch, heard)
                        if heard.leaving and self._may_hang_up(watch.node.id):
                            pause = self._settings.retry_most
                            break
                cause = "It is leaving." if watch.heard is not None and watch.heard.leaving else "The stream ended."
            except (aiohttp.ClientError, OSError, TimeoutError, ResidencyError) as error:
                cause = str(error) or "Nothing was heard in time."
            self._lost(watch, cause)
            await asyncio.sleep(pause * (0.5 + self._random.random()))
            pause = min(2 * pause, self._settings.retry_most)

    def _take(self, watch: _Watch, heard: Heard) -> None:
        node_id = watch.node.id
        if watch.heard is None:
            logger.info("residency is heard", extra={"node": node_id, "models": len(heard.models)})
        watch.heard, watch.cause, watch.lost_at = heard, None, None
        self._hints.heard(node_id)
        if heard.full:
            self._cache_map.snapshot(node_id, heard.models)
        else:
            for model, state in heard.models.items():
                self._cache_map.change(node_id, model, state)
        self._cache_map.leave(node_id, heard.leaving)
        waits = self._load_waits
        waits.told(node_id, heard.models, heard.load_seconds, heard.default_load_seconds, self._clock())

    def _lost(self, watch: _Watch, cause: str) -> None:
        now = asyncio.get_running_loop().time()
        if watch.heard is not None:
            logger.log(
                logging.INFO if watch.heard.leaving else logging.WARNING,
                "residency is no longer heard",
                extra={"node": watch.node.id, "cause": cause},
            )
            if watch.heard.leaving:
                watch.lost_at = now
        watch.heard, watch.cause = None, cause
        if watch.lost_at is not None and now - watch.lost_at < self._settings.gone:
            self._cache_map.snapshot(watch.node.id, {})
            return
        watch.lost_at = None
        self._forget(watch)
        self._hints.silence(watch.node)
        self._hints.expire(watch.node.id, self._clock())

    def _forget(self, watch: _Watch) -> None:
        self._load_waits.forget(watch.node.id)
        if self._cache_map.is_live(watch.node.id):
            self._cache_map.forget(watch.node.id)
            self._cache_map.declare(watch.node.id, watch.node.models)
