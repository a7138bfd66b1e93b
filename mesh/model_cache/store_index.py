"""The index of the store: which versions it has, asked once for all who want to know, and remembered for a while."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from mesh.model_cache.books.back_off import BackOff
from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import Busy, CacheError, ModelBroken, ModelMissing, StoreAway
from mesh.model_cache.loaders.loader import ServerAway
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores.store import Remote, Store, StoreCorrupt, StoreError
from mesh.model_cache.tasks import Spawn

logger = logging.getLogger(__name__)

_LIMIT = 50_000  # models of which the listing is remembered
MAX_QUESTIONS = 1024
"""Models about which the store is asked at once: clients choose the names, and most of those there may not exist."""
_BACK_OFF_FIRST, _BACK_OFF_MOST = 1.0, 30.0  # seconds for which a store that failed is not asked about that model


@dataclass(frozen=True, slots=True)
class _Listing:
    at: float
    versions: dict[int, Remote]


class StoreIndex:
    """The store's lists of versions. Each model is asked about by one question at a time; no model waits for another.

    A caller that goes away does not end the question that others wait for. `reads` is the model server's rule: whether
    it takes a folder of that name, decimal digits, for a version.
    """

    def __init__(
        self,
        settings: CacheSettings,
        store: Store,
        clock: Callable[[], float],
        spawn: Spawn,
        reads: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._settings = settings
        self._reads = reads
        self._store = store
        self._clock = clock
        self._listings: OrderedDict[str, _Listing] = OrderedDict()
        self._faults: dict[str, str] = {}
        self._missing: BackOff[str] = BackOff(settings.missing_seconds, settings.missing_seconds)
        self._away: BackOff[str] = BackOff(_BACK_OFF_FIRST, _BACK_OFF_MOST)
        self._questions: dict[str, asyncio.Future[_Listing | CacheError]] = {}
        self._spawn = spawn

    def known(self, key: Key) -> Remote | None:
        """The version as it was last listed, if it was."""
        listing = self._listings.get(key.model)
        return None if listing is None else listing.versions.get(key.version)

    def newest_known(self, model: str) -> Remote | None:
        """The newest version of the last listing."""
        listing = self._listings.get(model)
        return None if listing is None else listing.versions[max(listing.versions)]

    def causes(self) -> dict[str, str]:
        """By model, why the store could not be asked, or why a version in it cannot be fetched.

        The former only of models for which it is not asked again yet.
        """
        now = self._clock()
        return self._faults | {model: failure.cause for model, failure in self._away.active(now)}

    def drop(self, model: str) -> None:
        """Forget the listing of a model: it was wrong, or an operator wants the store asked again."""
        self._forget(model)
        self._missing.clear(model)
        self._away.clear(model)

    async def newest(self, model: str, fresh: bool = False) -> Remote:
        """The newest version, as heard within `refresh_seconds` (`fresh`: now); it may have a fault.

        Raises ModelMissing, ModelBroken, StoreAway, Busy.
        """
        listing = await self._listing(model, 0.0 if fresh else self._settings.refresh_seconds)
        return listing.versions[max(listing.versions)]

    async def find(self, key: Key) -> Remote:
        """One version that can be fetched. Raises ModelMissing, ModelBroken, StoreAway, Busy."""
        listing = await self._listing(key.model, self._settings.refresh_seconds)
        if key.version not in listing.versions and self._clock() - listing.at >= self._settings.missing_seconds:
            listing = await self._listing(key.model, 0.0)
        remote = listing.versions.get(key.version)
        if remote is None:
            raise ModelMissing(f"Model {key.model!a} has no version {key.version}.")
        if remote.fault:
            raise ModelBroken(f"Version {key.version} of model {key.model!a} is damaged in its store.", remote.fault)
        return remote

    async def _listing(self, model: str, max_age: float) -> _Listing:
        now = self._clock()
        listing = self._listings.get(model)
        if listing is not None and now - listing.at < max_age:
            self._listings.move_to_end(model)
            return listing
        failure = self._missing.check(model, now) or self._away.check(model, now)
        if failure is not None:
            raise failure.error()
        question = self._questions.get(model)
        if question is None:
            if len(self._questions) >= MAX_QUESTIONS:
                raise Busy("The store is asked about too many models already.")
            question = asyncio.get_running_loop().create_future()
            task = self._spawn(self._ask(model, question))
            self._questions[model] = question
            task.add_done_callback(lambda _: self._asked(model, question))
        answer = await asyncio.shield(question)
        if isinstance(answer, CacheError):
            raise answer.copy()
        return answer

    async def _ask(self, model: str, question: asyncio.Future[_Listing | CacheError]) -> None:
        question.set_result(await self._answer(model))

    def _asked(self, model: str, question: asyncio.Future[_Listing | CacheError]) -> None:
        """The question has ended; if without an answer, then because the node is being shut down."""
        del self._questions[model]
        if not question.done():
            question.set_result(Busy("This node is being shut down."))

    async def _answer(self, model: str) -> _Listing | CacheError:
        error: CacheError
        try:
            async with asyncio.timeout(self._settings.listing_seconds):
                remotes = await self._store.versions(model)
        except TimeoutError:
            error = _away(model, f"The store did not answer within {self._settings.listing_seconds:g} s.")
        except StoreCorrupt as failure:  # asking again, or elsewhere, brings the same
            error = ModelBroken(f"Model {model!a} is damaged in its store.", str(failure))
        except StoreError as failure:
            error = _away(model, str(failure))
        except Exception as failure:  # a mistake in a store must not end the node
            logger.exception("the store failed in a way of its own", extra={"model": model})
            error = _away(model, repr(failure))
        else:
            self._away.clear(model)
            try:
                async with asyncio.timeout(self._settings.listing_seconds):
                    versions = await self._versions(remotes)
            except (ServerAway, TimeoutError) as failure:
                return Busy("The model server of this node is away.", str(failure) or "It does not answer.")
            if versions:
                return self._remember(model, versions)
            error = _missing(model, remotes)
            self._forget(model)
            self._missing.record(model, error, self._clock())
            return error
        self._away.record(model, error, self._clock())
        return error

    async def _versions(self, remotes: Iterable[Remote]) -> dict[int, Remote]:
        """The versions that the model server would read, by number.

        Of two folders with one number it is the one whose name sorts last, `1` before `001`: TF Serving takes the last
        that it lists, and sorted is how every list of a cloud is. Raises ServerAway.
        """
        by_name = sorted((remote.folder or str(remote.version), remote) for remote in remotes)
        return {remote.version: remote for folder, remote in by_name if await self._reads(folder)}

    def _remember(self, model: str, versions: dict[int, Remote]) -> _Listing:
        self._missing.clear(model)
        self._forget(model)
        listing = _Listing(self._clock(), versions)
        self._listings[model] = listing
        faults = [remote.fault for remote in versions.values() if remote.fault]
        if faults:
            self._faults[model] = faults[-1]
        if len(self._listings) > _LIMIT:
            self._forget(next(iter(self._listings)))
        return listing

    def _forget(self, model: str) -> None:
        self._listings.pop(model, None)
        self._faults.pop(model, None)


def _missing(model: str, remotes: tuple[Remote, ...]) -> ModelMissing:
    if not remotes:
        return ModelMissing(f"No store has a model {model!a}.")
    folder = remotes[0].folder or str(remotes[0].version)
    words = f"its model server takes no folder with a name like {folder[:60]!a} for a version"
    return ModelMissing(f"Model {model!a} has no version that this node can serve: {words}.")


def _away(model: str, cause: str) -> StoreAway:
    return StoreAway(f"Model {model!a} cannot be had now: its store does not answer as it should.", cause)
