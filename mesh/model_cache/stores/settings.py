"""The settings of a store of models. Secrets are never among them: they come from the environment or the platform."""

import re
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import ByteSize, Field, field_validator
from pydantic_core import PydanticCustomError

from mesh.model_cache.books.names import check_name
from mesh.model_cache.errors import BadName
from mesh.settings import Settings

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")  # S3's rule, which also holds every name of Azure


class StoreSettings(Settings):
    """Where models come from: `<url>/<model>/<version>/<files>`, as TF Serving and Triton lay out a repository.

    Credentials come from the environment or the platform. S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, web
    identity, instance metadata. Azure: AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY, workload or managed identity.
    Google: GOOGLE_SERVICE_ACCOUNT (a file) or GOOGLE_SERVICE_ACCOUNT_KEY (its JSON), GOOGLE_APPLICATION_CREDENTIALS,
    workload identity and the metadata server. A public bucket needs none, and `anonymous` says so.
    """

    url: str = Field(
        description="`file:///models`, `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`."
    )
    endpoint: str | None = Field(
        default=None,
        description="Base URL of a service that speaks S3 (MinIO, Ceph), Azure Blob or Cloud Storage, if not the "
        "cloud's.",
    )
    region: str | None = Field(default=None, min_length=1, max_length=64, description="Region of the S3 bucket.")
    account: str | None = Field(
        default=None, pattern=r"^[a-z0-9]{3,24}$", description="Azure storage account, if the environment names none."
    )
    anonymous: bool = Field(default=False, description="Ask without credentials: public buckets.")
    connect_seconds: float = Field(default=5.0, gt=0, le=60, description="Longest wait for a connection.")
    silence_seconds: float = Field(default=10.0, gt=0, le=600, description="Longest wait for the next byte.")
    request_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="Longest time for one page of a list or one part, retries included."
    )
    retries: int = Field(default=3, ge=0, le=20, description="Repeats of a request that broke or was throttled.")
    concurrency: int = Field(default=8, ge=1, le=128, description="Parts of a model that are read at once.")
    part_bytes: ByteSize = Field(
        default=ByteSize(4 << 20),
        ge=64 << 10,
        le=64 << 20,
        description="Size of one ranged read. A fetch holds at most concurrency x part_bytes in memory.",
    )
    max_files: int = Field(default=10_000, ge=1, le=1_000_000, description="Files of one model, all versions together.")
    max_bytes: ByteSize = Field(default=ByteSize(1 << 40), gt=0, description="Size of one version of a model.")

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = _split(url)
        if parts.scheme == "file":
            if parts.netloc or not parts.path.startswith("/"):
                raise ValueError("a file URL has three slashes and an absolute path, as file:///models")
        elif parts.scheme not in ("s3", "az", "gs"):
            raise ValueError("a store is file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix")
        elif not _BUCKET.fullmatch(parts.netloc):
            raise ValueError("the bucket or container cannot have that name")
        for name in parts.path.strip("/").split("/") if parts.path.strip("/") else []:
            try:
                check_name(name, "part of the path")
            except BadName as error:
                raise ValueError(error.message) from None
        return url

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        parts = _split(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an endpoint is http://host:port or https://host:port")
        return endpoint.rstrip("/")

    @property
    def kind(self) -> Literal["file", "s3", "az", "gs"]:
        """Which kind of store it is."""
        scheme = urlsplit(self.url).scheme
        return "s3" if scheme == "s3" else "az" if scheme == "az" else "gs" if scheme == "gs" else "file"

    @property
    def bucket(self) -> str:
        """The bucket or container; empty for a disk."""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """The prefix in the bucket, without slashes around it; for a disk the absolute path of the folder."""
        path = urlsplit(self.url).path
        return path if self.kind == "file" else path.strip("/")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("it is not a URL") from None
    if parts.query or parts.fragment or "@" in parts.netloc:
        # A type of its own, so that whoever words the error leaves the value out.
        raise PydanticCustomError("secret", "a URL with a user, a query or a fragment: credentials do not belong here")
    return parts
