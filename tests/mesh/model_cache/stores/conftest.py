import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.model_cache.stores.shelves import (
    ACCOUNT_KEY,
    AzureShelf,
    DiskShelf,
    Moto,
    S3Shelf,
    Shelf,
    azurite,
    moto,
)

SECRET = "s3cr3t-that-nobody-may-see"


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Moto]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def azurite_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite(tmp_path_factory.mktemp("azurite") / "log") as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are always there, so that no test asks a cloud's metadata service; proxies are not."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY)
    for name in [name for name in os.environ if name.startswith("GOOGLE_")]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["disk", "s3", pytest.param("azure", marks=pytest.mark.azurite)])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """An empty store of each kind."""
    if request.param == "disk":
        return DiskShelf(tmp_path / "shelf")
    if request.param == "s3":
        return S3Shelf(request.getfixturevalue("moto_server").endpoint)
    return AzureShelf(request.getfixturevalue("azurite_endpoint"))


@pytest.fixture
def disk(tmp_path: Path) -> DiskShelf:
    return DiskShelf(tmp_path / "shelf")


@pytest.fixture
def s3(moto_server: Moto) -> S3Shelf:
    return S3Shelf(moto_server.endpoint)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where models are fetched to."""
    return tmp_path / "cache"
