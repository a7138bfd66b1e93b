"""S3, what speaks its protocol, and Azure Blob, through obstore."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import AzureStore, S3Store

from mesh.model_cache.stores.failures import failure
from mesh.model_cache.stores.object_source import Data, changed
from mesh.model_cache.stores.objects import Object
from mesh.model_cache.stores.settings import StoreSettings
from mesh.model_cache.stores.store import StoreCorrupt, StoreMissing, StoreTransient

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config

_PAGE = 1000  # the longest page that S3 gives


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
            self._store = _s3(settings) if settings.kind == "s3" else _azure(settings)
        except BaseError as error:
            raise failure(self.name, error) from None

    async def objects(self, model: str, limit: int) -> list[Object]:
        """See ObjectSource."""
        root = f"{self._prefix}/{model}" if self._prefix else model
        found: list[Object] = []
        pages = aiter(obstore.list(self._store, root, chunk_size=_PAGE))
        while True:
            async with self._limited():
                page = await anext(pages, None)
            if page is None:
                return found
            for meta in page:
                path, etag = meta["path"], meta["e_tag"]
                if path != root and not path.startswith(root + "/"):
                    raise StoreCorrupt(f"{self.name} lists {path[:200]!a}, which is not below {root!a}.")
                if not etag:
                    raise StoreCorrupt(f"{self.name} gives no etag for {path[:200]!a}.")
                found.append(Object(path[len(root) + 1 :], meta["size"], etag))
            if len(found) > limit:
                raise StoreCorrupt(f"In {self.name} the model {model!a} has more than {limit} files.")

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
