"""S3, what speaks its protocol, Azure Blob and Google Cloud Storage, through obstore."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, InvalidPathError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from mesh.model_cache.stores.failures import failure
from mesh.model_cache.stores.object_source import Data, changed
from mesh.model_cache.stores.objects import Listing, Object, Odd
from mesh.model_cache.stores.settings import StoreSettings
from mesh.model_cache.stores.store import StoreCorrupt, StoreMissing, StoreTransient

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

_PAGE = 1000  # the longest page that S3 gives
_FOLDERS = 200  # of one model that are listed one by one, a request each, where a key in one of them spoils the list


class _BadKey(StoreCorrupt):
    """A key in the list cannot be a path (`a//b`, `a/../b`); obstore then gives nothing of the list."""


class CloudSource:
    """One bucket or container. Credentials come from the environment or the platform, as obstore finds them.

    What obstore says is never passed on as it is (see `failures`), and a store of Azure is never printed: its repr
    panics where the account comes from the environment.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.name = settings.url
        self._prefix = settings.path
        self._seconds = settings.request_seconds
        try:
            self._store = _OPEN[settings.kind](settings)
        except BaseError as error:
            raise failure(self.name, error) from None

    async def objects(self, model: str, limit: int) -> Listing:
        """See ObjectSource."""
        root = f"{self._prefix}/{model}" if self._prefix else model
        found = Listing()
        try:
            await self._list(root, root, limit, found)
        except _BadKey as error:
            return await self._list_by_folder(root, limit, error)
        return found

    async def _list(self, root: str, below: str, limit: int, found: Listing) -> None:
        """Adds everything below a path in the model's folder `root`."""
        pages = aiter(obstore.list(self._store, below, chunk_size=_PAGE))
        while True:
            async with self._limited():
                page = await anext(pages, None)
            if page is None:
                return
            self._take(root, page, found)
            if len(found) > limit:
                raise StoreCorrupt(f"In {self.name} the model {root.rpartition('/')[2]!a} has more than {limit} files.")

    async def _list_by_folder(self, root: str, limit: int, error: StoreCorrupt) -> Listing:
        """One key that cannot be a path costs the list of its own folder alone."""
        async with self._limited():
            level = await obstore.list_with_delimiter_async(self._store, root)
        if len(level["common_prefixes"]) > _FOLDERS:
            raise error
        found = Listing()
        self._take(root, level["objects"], found)
        for folder in level["common_prefixes"]:
            files = len(found.files)
            try:
                await self._list(root, folder, limit, found)
            except _BadKey:
                del found.files[files:]
                fault = "holds a key that cannot be a file (an empty part, `..` or a control character)"
                found.odd.append(Odd(folder[len(root) + 1 :], fault, folder=True))
        return found

    def _take(self, root: str, page: "Sequence[ObjectMeta]", found: Listing) -> None:
        for meta in page:
            path, etag = meta["path"], meta["e_tag"]
            if path != root and not path.startswith(root + "/"):
                raise StoreCorrupt(f"{self.name} lists {path[:200]!a}, which is not below {root!a}.")
            if not etag:
                raise StoreCorrupt(f"{self.name} gives no etag for {path[:200]!a}.")
            found.files.append(Object(path[len(root) + 1 :], meta["size"], etag))

    async def read(self, model: str, each: Object, offset: int, length: int) -> Data:
        """See ObjectSource."""
        key = "/".join(part for part in (self._prefix, model, each.path) if part)
        # Azure lists etags without the quotes that the header has.
        etag = each.etag if each.etag.startswith('"') else f'"{each.etag}"'
        options: GetOptions = {"if_match": etag, "range": (offset, offset + length)}
        async with self._limited():
            try:
                result = await obstore.get_async(self._store, key, options=options)
                data = await result.bytes_async()
            except PreconditionError:
                raise changed(self.name, model, each) from None
        return memoryview(data)

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise StoreTransient(f"{self.name} gave no answer within {self._seconds:g} s.") from None
        except FileNotFoundError:
            raise StoreMissing(f"{self.name} has no such bucket or file.") from None
        except InvalidPathError as error:
            raise _BadKey(str(failure(self.name, error))) from None
        except BaseError as error:
            raise failure(self.name, error) from None


def _s3(settings: StoreSettings) -> S3Store:
    config: S3Config = {"bucket": settings.bucket}
    if settings.endpoint:
        # Both, because a service-specific endpoint in the environment would win over the general one.
        config["endpoint"] = config["aws_endpoint_url_s3"] = settings.endpoint
    if settings.region:
        config["region"] = settings.region
    if settings.anonymous:
        config["skip_signature"] = True
    return S3Store(client_options=_client(settings), retry_config=_retries(settings), **config)


def _azure(settings: StoreSettings) -> AzureStore:
    config: AzureConfig = {"container_name": settings.bucket}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.account:
        config["account_name"] = settings.account
    if settings.anonymous:
        config["skip_signature"] = True
    return AzureStore(client_options=_client(settings), retry_config=_retries(settings), **config)


def _gcs(settings: StoreSettings) -> GCSStore:
    config: GCSConfig = {"bucket": settings.bucket}
    if settings.endpoint:
        config["base_url"] = settings.endpoint
    if settings.anonymous:
        config["skip_signature"] = True
    return GCSStore(client_options=_client(settings), retry_config=_retries(settings), **config)


_OPEN: dict[str, Callable[[StoreSettings], AzureStore | GCSStore | S3Store]] = {"s3": _s3, "az": _azure, "gs": _gcs}


def _client(settings: StoreSettings) -> "ClientConfig":
    return {
        "allow_http": bool(settings.endpoint and settings.endpoint.startswith("http://")),
        "connect_timeout": timedelta(seconds=settings.connect_seconds),
        "read_timeout": timedelta(seconds=settings.silence_seconds),
        "timeout": timedelta(seconds=settings.request_seconds),
        "pool_max_idle_per_host": str(settings.concurrency),
    }


def _retries(settings: StoreSettings) -> "RetryConfig":
    return {"max_retries": settings.retries, "retry_timeout": timedelta(seconds=settings.request_seconds)}
