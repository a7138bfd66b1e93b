"""The control planes themselves, built by `make peers`; where one was not, its tests are skipped and say so."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from integration.peers.etcd import Etcd
from integration.peers.kube_apiserver import SLICES, ApiServerTls, KubeApiserver
from tests.certificates import Authority
from tests.integration.conftest import names, pytest_runtest_makereport, repository

__all__ = ["names", "pytest_runtest_makereport", "repository"]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def etcd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Etcd]:
    try:
        server = Etcd(tmp_path_factory.mktemp("etcd"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    async with server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(
    etcd: Etcd, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[KubeApiserver]:
    """A Kubernetes API with the namespace `ml`."""
    async with api_server(tmp_path_factory.mktemp("api"), etcd, authority) as server:
        await server.apply(
            *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("ml", "elsewhere"))
        )
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def emptied(api: KubeApiserver) -> KubeApiserver:
    """The API without slices of earlier tests."""
    await api.call("DELETE", SLICES)
    return api


def api_server(folder: Path, etcd: Etcd, authority: Authority, *, cached: bool = True) -> KubeApiserver:
    theirs = authority.issue("127.0.0.1", user="kube-apiserver")
    tls = ApiServerTls(theirs.certificate, theirs.key, authority.ca)
    try:
        return KubeApiserver(folder, etcd.url, tls, cached)
    except FileNotFoundError as error:
        pytest.skip(str(error))
