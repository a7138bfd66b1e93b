"""TF Serving: HandleReloadConfigRequest with the full list of what is to be served, and GetModelStatus.

TF Serving works on one reload at a time, and answers it once every model that is new in it has loaded or failed. So the
changes that come up meanwhile are gathered, and go out together in the next one; a model is taken as loaded as soon as
its status says so. How often it tries a load again by itself, and how long it waits in between, are options of the
server (`--max_num_load_retries=0` tells of failures at once; its default takes five minutes).
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio

from mesh.back_off import RetryDelays
from mesh.model_cache.books.names import LATEST, Key
from mesh.model_cache.loaders.channel import RpcFailed, connect, lost, method
from mesh.model_cache.loaders.loader import Loaded, LoadFailed, ServerAway
from mesh.model_cache.loaders.reloads import Outcome, Reloads
from mesh.protos import tfs_pb2 as pb

_SERVICE = "/tensorflow.serving.ModelService/"
_POLL_FIRST, _POLL_MOST = 0.01, 0.5  # seconds between looks at a model that comes or goes
_STALE = 2.0  # seconds for which the END of an earlier load may still be shown after the reload
_AT_ONCE = 16  # status questions at the same time

_AVAILABLE = pb.ModelVersionStatus.AVAILABLE
_END = pb.ModelVersionStatus.END


class TfServingLoader:
    """A `Loader`. Keeps the full list of what is served, since TF Serving cannot be asked for it.

    `folder` is the cache's folder of models as TF Serving sees it. `labels` are version labels by model; each is set
    while its version is loaded, and `latest` stands for the newest version that is.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        folder: Path,
        labels: Mapping[str, Mapping[str, int]] | None = None,
        platform: str = "tensorflow",
    ) -> None:
        self._channel = channel
        self._status = method(channel, _SERVICE + "GetModelStatus", pb.GetModelStatusResponse)
        self._reload = method(channel, _SERVICE + "HandleReloadConfigRequest", pb.ReloadConfigResponse)
        self._folder = folder
        self._labels = labels or {}
        self._platform = platform
        self._wanted: set[Key] = set()
        self._available: set[Key] = set()
        self._moving: set[Key] = set()
        self._reloads = Reloads(self._send)

    async def reads(self, folder: str) -> bool:
        """Any: `00000123` is version 123 (ParseVersionNumber in file_system_storage_path_source.cc)."""
        return True

    async def load(self, key: Key, folder: Path) -> Loaded:
        """Load the version beside those that are loaded. Raises LoadFailed with TF Serving's words, or ServerAway."""
        self._moving.add(key)
        try:
            await self._until_available(key)
        except BaseException:
            self._wanted.discard(key)
            raise
        finally:
            self._moving.discard(key)
        self._available.add(key)
        labelled = self._reloads.ask()  # a label can only be set on a version that is available
        if key.version in self._labels.get(key.model, {}).values():
            _raise(await asyncio.shield(labelled))
        return Loaded()

    async def unload(self, key: Key, folder: Path) -> None:
        """Leave the version out of the list, and wait until TF Serving has let go of it. Raises as `load`."""
        self._moving.add(key)
        try:
            self._wanted.discard(key)
            self._available.discard(key)
            _raise(await asyncio.shield(self._reloads.ask()))
            for wait in RetryDelays(_POLL_FIRST, _POLL_MOST):
                status = await self._version(key)
                if status is None or status.state == _END:
                    return
                await asyncio.sleep(wait)
        finally:
            self._moving.discard(key)

    async def held(self, known: Iterable[Key]) -> frozenset[Key]:
        """Every available version of the known models; the list is these from now on, and what is on its way."""
        before = frozenset(self._available)
        models = sorted({key.model for key in (*known, *before)})
        places = asyncio.Semaphore(_AT_ONCE)

        async def ask(model: str) -> list[Key]:
            async with places:
                return [Key(model, each.version) for each in await self._versions(model) if each.state == _AVAILABLE]

        held = frozenset(key for keys in await asyncio.gather(*map(ask, models)) for key in keys)
        lost = before - held - self._moving
        found = held - self._moving
        self._wanted = (self._wanted - lost) | found
        self._available = (self._available - lost) | found
        return held

    async def batcher(self, key: Key) -> str:
        """TF Serving does not tell whether it was started with a batching file."""
        return ""

    async def lost(self) -> None:
        """Return when the connection to TF Serving is lost."""
        await lost(self._channel)

    async def close(self) -> None:
        """Give up the reload that is under way."""
        await self._reloads.close()

    async def _until_available(self, key: Key) -> None:
        old = await self._version(key)
        self._wanted.add(key)
        if old is not None and old.state == _AVAILABLE:
            return
        reload = self._reloads.ask()
        # TF Serving shows how an earlier load of this version ended until the new one has begun.
        earlier_end = old is not None and old.state == _END
        believed_until = math.inf
        clock = asyncio.get_running_loop().time
        waits = RetryDelays(_POLL_FIRST, _POLL_MOST)
        while not is_loaded(status := await self._version(key), reload, earlier_end and clock() < believed_until):
            if status is None or status.state != _END:
                earlier_end = False
            elif reload.done():
                believed_until = min(believed_until, clock() + _STALE)
            await asyncio.sleep(next(waits))

    async def _version(self, key: Key) -> pb.ModelVersionStatus | None:
        return next((each for each in await self._versions(key.model) if each.version == key.version), None)

    async def _versions(self, model: str) -> list[pb.ModelVersionStatus]:
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
        try:
            return list((await self._status(request)).model_version_status)
        except RpcFailed as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return []
            raise

    async def _send(self) -> None:
        reply = await self._reload(pb.ReloadConfigRequest(config=self._config()))
        if reply.status.error_code:
            raise LoadFailed(reply.status.error_message)

    def _config(self) -> pb.ModelServerConfig:
        config = pb.ModelServerConfig()
        config.model_config_list.SetInParent()  # an empty list is a list too
        versions: dict[str, list[int]] = {}
        for key in sorted(self._wanted):
            versions.setdefault(key.model, []).append(key.version)
        for model, numbers in versions.items():
            each = config.model_config_list.config.add(
                name=model, base_path=str(self._folder / model), model_platform=self._platform
            )
            each.model_version_policy.specific.versions[:] = numbers
            each.version_labels.update(self._labels_of(model))
        return config

    def _labels_of(self, model: str) -> dict[str, int]:
        available = [key.version for key in self._available if key.model == model]
        labels = {LATEST: max(available)} if available else {}
        return labels | {label: at for label, at in self._labels.get(model, {}).items() if at in available}


def is_loaded(status: pb.ModelVersionStatus | None, reload: "asyncio.Future[Outcome]", earlier_end: bool) -> bool:
    """Whether the version is loaded; False: look again. Raises LoadFailed or ServerAway where it will not be.

    | status TF Serving shows   | reload         | then                                                          |
    |---------------------------|----------------|---------------------------------------------------------------|
    | AVAILABLE                 | any            | loaded                                                        |
    | any other                 | ServerAway     | raised                                                        |
    | none                      | LoadFailed     | raised: the list was refused                                  |
    | END, not an `earlier_end` | answered       | LoadFailed, in the words of the status, else of the reload    |
    | else                      | else           | look again                                                    |
    """
    outcome = reload.result() if reload.done() else None
    if status is not None and status.state == _AVAILABLE:
        return True
    if isinstance(outcome, ServerAway) or (outcome is not None and status is None):
        raise outcome
    if status is not None and status.state == _END and reload.done() and not earlier_end:
        raise LoadFailed(status.status.error_message or str(outcome or "it was unloaded again at once"))
    return False


def _raise(outcome: Outcome) -> None:
    if outcome is not None:
        raise outcome


@asynccontextmanager
async def open_tf_serving(
    address: str,
    folder: Path,
    labels: Mapping[str, Mapping[str, int]] | None = None,
    platform: str = "tensorflow",
) -> AsyncIterator[TfServingLoader]:
    """A loader for the server at `host:port`; see TfServingLoader."""
    async with connect(address) as channel:
        loader = TfServingLoader(channel, folder, labels, platform)
        try:
            yield loader
        finally:
            await loader.close()
