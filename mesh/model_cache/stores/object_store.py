"""The store of models over any source of objects: a listing becomes versions, and a version a local folder."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from mesh.bounded import keep_newest
from mesh.model_cache import config_pbtxt
from mesh.model_cache.books.names import check_name
from mesh.model_cache.books.needs import Need
from mesh.model_cache.errors import BadName
from mesh.model_cache.stores.object_source import Data, ObjectSource
from mesh.model_cache.stores.objects import Listing, Object, Package, contents
from mesh.model_cache.stores.settings import StoreSettings
from mesh.model_cache.stores.staging import Staging
from mesh.model_cache.stores.store import Remote, StoreCorrupt, StoreFull, StoreMissing, StoreTransient
from mesh.model_cache.stores.transfer import ByteRange, in_order, missing_parts

logger = logging.getLogger(__name__)

T = TypeVar("T")

Needs = tuple[tuple[Need, ...] | None, str]
"""The models that a model is made of (None: it is made of no others), and why that cannot be known."""

_REMEMBERED = 10_000  # models whose config.pbtxt is not read again while it is the same
_SHOWN = 5  # of what is left out of a model, in a line of the log


class ObjectStore:
    """A `Store`: lists and reads come from the source, and the staging folder makes them a version."""

    def __init__(self, source: ObjectSource, settings: StoreSettings) -> None:
        self._source = source
        self._settings = settings
        self._needs: dict[str, tuple[str, Needs]] = {}  # by model, with the etag of its config.pbtxt

    async def versions(self, model: str) -> tuple[Remote, ...]:
        """See Store."""
        found = await self._packages(model)
        return tuple(
            Remote(
                model,
                each.version,
                each.size_bytes,
                each.digest,
                "" if folder == str(each.version) else folder,
                each.fault,
                each.needs,
            )
            for folder, each in found.items()
        )

    async def fetch(self, remote: Remote, target: Path, progress: Callable[[int], None]) -> None:
        """See Store. A version that no longer has `remote.digest` is StoreTransient: ask `versions` again."""
        package = await self._package(remote)
        staging = Staging(package, target)
        try:
            held = await settled(staging.open)
            done = sum(held.values())
            progress(done)
            parts = missing_parts(package.objects, held, self._settings.part_bytes)
            read = partial(self._read, package)
            async with aclosing(in_order(parts, read, self._settings.concurrency)) as arriving:
                async for part, data in arriving:
                    await settled(staging.write, part.object, part.offset, data)
                    done += part.length
                    progress(done)
            await settled(staging.publish)
        except (StoreFull, StoreCorrupt):
            await settled(staging.discard)
            raise
        finally:
            staging.close()

    async def _read(self, package: Package, part: ByteRange) -> Data:
        there = replace(part.object, path=package.in_store(part.object.path))
        data = await self._source.read(package.model, there, part.offset, part.length)
        if len(data) != part.length:
            raise StoreCorrupt(
                f"{self._source.name} sent {len(data)} bytes of {f'{package.model}/{there.path}'!a} where "
                f"{part.length} were asked for."
            )
        return data

    async def _packages(self, model: str) -> Mapping[str, Package]:
        try:
            check_name(model)
        except BadName as error:
            raise StoreMissing(error.message) from None
        listing = await self._source.objects(model, self._settings.max_files)
        found = contents(model, listing, *await self._needs_of(model, listing))
        if found.left_out:
            shown = found.left_out[:_SHOWN]
            extra = {"model": model, "entries": len(found.left_out), "first": shown}
            logger.debug("the store has entries that belong to no version", extra=extra)
        return found.packages

    async def _needs_of(self, model: str, listing: Listing) -> Needs:
        """What the model's config.pbtxt says it needs, and why that cannot be known."""
        config = next((each for each in listing.files if each.path == config_pbtxt.NAME), None)
        if config is None:
            return None, ""
        etag, needs = self._needs.get(model, ("", (None, "")))
        if etag != config.etag:
            needs = await self._read_needs(model, config)
            keep_newest(self._needs, model, (config.etag, needs), _REMEMBERED)
        return needs

    async def _read_needs(self, model: str, config: Object) -> Needs:
        try:
            config_pbtxt.check_size(config.size)
            text = await self._source.read(model, config, 0, config.size) if config.size else b""
            return await asyncio.to_thread(config_pbtxt.needs, bytes(text)), ""
        except config_pbtxt.ConfigFault as fault:
            return None, str(fault)

    async def _package(self, remote: Remote) -> Package:
        package = (await self._packages(remote.model)).get(remote.folder or str(remote.version))
        which = f"version {remote.version} of {remote.model!a}"
        if package is None:
            raise StoreMissing(f"{self._source.name} has no {which} any more.")
        if package.fault:
            raise StoreCorrupt(package.fault)
        if package.digest != remote.digest:
            raise StoreTransient(f"In {self._source.name} {which} has changed since it was listed.")
        if package.size_bytes > self._settings.max_bytes:
            limit = int(self._settings.max_bytes)
            raise StoreCorrupt(f"In {self._source.name} {which} has {package.size_bytes} bytes; max_bytes is {limit}.")
        return package


async def settled(work: Callable[..., T], *args: object) -> T:
    """Run blocking work in a thread, and never leave it running: a cancellation is raised once the work has ended."""
    running = asyncio.get_running_loop().run_in_executor(None, partial(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):  # another one: the answer is the same
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen, and of no more interest
        raise
