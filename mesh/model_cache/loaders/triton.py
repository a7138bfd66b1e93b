"""Triton, and every server with the V2 model repository extension: explicit model control over gRPC.

Triton loads and unloads whole models. Which versions of a model are served follows from its version policy, so another
version comes and goes by a load with another policy; the versions that stay are served all the while.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from mesh.back_off import RetryDelays
from mesh.digits import number
from mesh.model_cache import config_pbtxt
from mesh.model_cache.books.names import Key
from mesh.model_cache.loaders.channel import RpcFailed, connect, lost, method
from mesh.model_cache.loaders.loader import Loaded, LoadFailed
from mesh.model_cache.loaders.version_policy import override, present

_SERVICE = "/inference.GRPCInferenceService/"
EMBEDDED = "tbms"
"""The name that our own model server gives in its metadata."""
_BATCHERS = frozenset({"dynamic_batching", "sequence_batching"})
_POLL_FIRST, _POLL_MOST = 0.005, 0.25  # seconds between looks at a model that goes


class TritonLoader:
    """A `Loader`: RepositoryModelLoad and -Unload. Triton's model repository is the cache's folder of models.

    Keeps no state but locks, one for each model: its versions are loaded and unloaded one after the other.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._index = method(channel, _SERVICE + "RepositoryIndex", pb.RepositoryIndexResponse)
        self._load = method(channel, _SERVICE + "RepositoryModelLoad", pb.RepositoryModelLoadResponse)
        self._unload = method(channel, _SERVICE + "RepositoryModelUnload", pb.RepositoryModelUnloadResponse)
        self._metadata = method(channel, _SERVICE + "ServerMetadata", pb.ServerMetadataResponse)
        self._ready = method(channel, _SERVICE + "ModelReady", pb.ModelReadyResponse)
        self._config = method(channel, _SERVICE + "ModelConfig", pb.ModelConfigResponse)
        self._statistics = method(channel, _SERVICE + "ModelStatistics", pb.ModelStatisticsResponse)
        # Weak: a lock goes when nobody holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def reads(self, folder: str) -> bool:
        """Triton ignores a folder whose name begins with a zero ("model_repository.md" of its user guide), but for `0`.

        The embedded server reads the number, as TF Serving does; which of the two it is, is asked where it matters.
        """
        if folder == "0" or not folder.startswith("0"):
            return True
        try:
            metadata = await self._metadata(pb.ServerMetadataRequest())
        except RpcFailed:
            return False
        name: str = metadata.name
        return name == EMBEDDED

    async def load(self, key: Key, folder: Path) -> Loaded:
        """Load the version beside those that are loaded. Raises LoadFailed with Triton's words, or ServerAway."""
        async with self._alone(key.model, folder) as parts:
            kept = await self._loadable(await self._versions(key.model), folder)
            await self._serve(key.model, kept | {key.version}, folder, parts)
            ready = await self._ready(pb.ModelReadyRequest(name=key.model, version=str(key.version)))
            if not ready.ready:
                raise LoadFailed(f"version {key.version} is not ready after its load")
            return Loaded(await self._memory(key))

    async def unload(self, key: Key, folder: Path) -> None:
        """Unload the version; the others stay. Raises LoadFailed or ServerAway."""
        async with self._alone(key.model, folder) as parts:
            held = await self._versions(key.model)
            others = await self._loadable(held - {key.version}, folder)
            if not others:
                await self._unload(pb.RepositoryModelUnloadRequest(model_name=key.model))
                await self._until_gone(key.model)
            elif others != held:
                await self._serve(key.model, others, folder, parts)

    async def held(self, known: Iterable[Key]) -> frozenset[Key]:
        """Every version that is ready, whether or not it is among the known ones."""
        index = await self._index(pb.RepositoryIndexRequest(ready=True))
        return frozenset(
            Key(each.name, version)
            for each in index.models
            if each.state == "READY" and (version := number(each.version, 19)) is not None
        )

    async def batcher(self, key: Key) -> str:
        """`dynamic_batching` or `sequence_batching`, where the configuration that Triton has made of the model has one.

        It may have what its file has not: Triton completes the configuration of some backends by itself.
        """
        try:
            reply = await self._config(pb.ModelConfigRequest(name=key.model, version=str(key.version)))
        except RpcFailed:  # unloaded meanwhile, or a server without that part of the protocol
            return ""
        chosen: str | None = reply.config.WhichOneof("scheduling_choice")
        return chosen if chosen in _BATCHERS else ""

    async def lost(self) -> None:
        """Return when the connection to Triton is lost."""
        await lost(self._channel)

    @asynccontextmanager
    async def _alone(self, model: str, folder: Path) -> AsyncIterator[list[str]]:
        """The model's lock, and those of the models that it is made of at any depth: these."""
        parts = await asyncio.to_thread(config_pbtxt.parts_below, folder)
        async with AsyncExitStack() as locks:
            for each in sorted({model, *parts}):  # in one order for all, so that no two wait for each other
                await locks.enter_async_context(self._one_at_a_time(each))
            yield sorted(parts - {model})

    async def _serve(self, model: str, wanted: frozenset[int], folder: Path, parts: list[str]) -> None:
        """Load a model, with exactly these versions.

        When Triton loads an ensemble it looks at its parts' files again, and loads those that have changed as the files
        say, whatever versions it was told to serve. So they are shown to it before, by loads that say which.
        """
        for part in parts:
            beside = folder.with_name(part)
            kept = await self._loadable(await self._versions(part), beside)
            config = await asyncio.to_thread(override, beside, kept) if kept else None
            if config is not None:
                await self._send_load(part, config)
        await self._send_load(model, await asyncio.to_thread(override, folder, wanted))

    async def _send_load(self, model: str, config: str | None) -> None:
        request = pb.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            request.parameters["config"].string_param = config
        await self._load(request)

    async def _loadable(self, held: frozenset[int], folder: Path) -> frozenset[int]:
        """Those of the versions whose files are there: a load that asks for any other fails.

        Triton's index may leave out a version that goes, and have it again: its files are gone by then.
        """
        return held & await asyncio.to_thread(present, folder) if held else held

    async def _versions(self, model: str) -> frozenset[int]:
        return frozenset(key.version for key in await self.held(()) if key.model == model)

    async def _memory(self, key: Key) -> int | None:
        """Bytes that Triton says it takes; None where the backend does not tell, or statistics are off."""
        try:
            reply = await self._statistics(pb.ModelStatisticsRequest(name=key.model, version=str(key.version)))
        except RpcFailed:
            return None
        return sum(usage.byte_size for each in reply.model_stats for usage in each.memory_usage) or None

    async def _until_gone(self, model: str) -> None:
        """An unload is answered before the memory is free."""
        waits = RetryDelays(_POLL_FIRST, _POLL_MOST)
        while True:
            index = await self._index(pb.RepositoryIndexRequest())
            if not any(each.name == model and each.state in ("READY", "UNLOADING") for each in index.models):
                return
            await asyncio.sleep(next(waits))

    def _one_at_a_time(self, model: str) -> asyncio.Lock:
        lock = self._locks.get(model)
        if lock is None:
            lock = self._locks[model] = asyncio.Lock()
        return lock


@asynccontextmanager
async def open_triton(address: str) -> AsyncIterator[TritonLoader]:
    """A loader for the server at `host:port`."""
    async with connect(address) as channel:
        yield TritonLoader(channel)
