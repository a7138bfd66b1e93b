"""The plan of a load: the model and all that it needs, as they are on the node, on its disk or in the store."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mesh.model_cache import config_pbtxt
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import MAX_NEEDED, Entangled, Need, parts_first
from mesh.model_cache.books.states import CLAIMING, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import CacheError, ModelBroken, StoreAway
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.stores.store import Remote
from mesh.model_cache.versions import Versions


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a plan. `remote` is what is to be loaded; None: it is loaded, or on its way."""

    key: Key
    needs: tuple[Need, ...]
    remote: Remote | None


class Planning:
    """Plans change nothing but for files on the disk that turn out to be of another state of the store."""

    def __init__(self, cache: CacheState, store_index: StoreIndex, versions: Versions) -> None:
        self._cache = cache
        self._store_index = store_index
        self._versions = versions

    async def plan(self, key: Key, fresh: bool = False) -> list[Member]:
        """The model and all that it needs, each after what it needs itself.

        `fresh`: the store is asked now about all but the model itself.

        Raises CacheError: that of the model itself, or of one that it needs, and then the message says by which way.
        """
        users = {key.model: ""}  # of each model, the one for whose sake it is looked at
        members: dict[Key, Member] = {}
        known = {Need(*key)}
        wanted = list(known)
        while wanted:
            looks = (self._member(need, fresh and need.model != key.model) for need in wanted)
            found = await asyncio.gather(*looks, return_exceptions=True)
            level = []
            for need, member in zip(wanted, found, strict=True):
                if isinstance(member, CacheError):
                    raise _with_users(need.model, users, member)
                if isinstance(member, BaseException):
                    raise member
                members[member.key] = member
                level.append(member)
            wanted = []
            for member in level:
                for need in member.needs:
                    users.setdefault(need.model, member.key.model)
                    if need not in known:
                        known.add(need)
                        wanted.append(need)
            if len(known) > MAX_NEEDED + 1:
                raise ModelBroken(f"Model {key.model!a} does not load: it needs more than {MAX_NEEDED} other models.")
        return _in_order(key, members.values())

    async def _member(self, need: Need, fresh: bool) -> Member:
        cache = self._cache
        entry = cache.relations.meant(need)
        if entry is not None and entry.state in CLAIMING:
            return Member(entry.key, entry.needs, None)
        if fresh:
            self._store_index.drop(need.model)
        key = await self._versions.resolve(need.model, need.version, None)
        await cache.settled(key)
        remote = await self._remote(key)
        return Member(key, cache.needs(key.model, remote.needs), remote)

    async def _remote(self, key: Key) -> Remote:
        """The version to load. Whole files on the disk are as good as the store, unless it has others by now."""
        cache, entry = self._cache, self._cache.entry(key)
        if entry is None or not entry.complete:
            return await self._store_index.find(key)
        remote = self._store_index.known(key)
        if entry.state is ModelState.FAILED:
            try:
                remote = await self._store_index.find(key)
            except (StoreAway, ModelBroken):
                if not entry.complete:
                    raise
        if remote is not None and not remote.fault and remote.digest != entry.digest:
            await cache.remove_files(entry)
            return remote
        needs = await cache.offload(config_pbtxt.needs_of, cache.files.model(key.model))
        return Remote(key.model, key.version, entry.disk_bytes, entry.digest, needs=needs)


def _in_order(key: Key, members: Collection[Member]) -> list[Member]:
    needs: dict[str, dict[str, None]] = {}
    for member in members:
        needs.setdefault(member.key.model, {}).update((need.model, None) for need in member.needs)
    try:
        order = {model: place for place, model in enumerate(parts_first(key.model, lambda model: needs[model]))}
    except Entangled as error:
        raise ModelBroken(f"Model {key.model!a} does not load: {error}.") from None
    return sorted(members, key=lambda member: order[member.key.model])


def _with_users(model: str, users: Mapping[str, str], error: CacheError) -> CacheError:
    while user := users[model]:
        error = error.under(user, model)
        model = user
    return error
