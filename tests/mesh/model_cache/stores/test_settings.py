import builtins
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from mesh.errors import MeshError
from mesh.model_cache.stores import StoreSettings, open_store


@pytest.mark.parametrize(
    ("url", "kind", "bucket", "path"),
    [
        ("file:///models", "file", "", "/models"),
        ("file:///srv/my models", "file", "", "/srv/my models"),
        ("s3://bucket", "s3", "bucket", ""),
        ("s3://bucket/", "s3", "bucket", ""),
        ("s3://bucket/a/b/", "s3", "bucket", "a/b"),
        ("az://container/a", "az", "container", "a"),
        ("gs://bucket/a/b", "gs", "bucket", "a/b"),
    ],
)
def test_urls(url: str, kind: str, bucket: str, path: str) -> None:
    settings = StoreSettings(url=url)
    assert (settings.kind, settings.bucket, settings.path) == (kind, bucket, path)


@pytest.mark.parametrize(
    "url",
    [
        "models",
        "/models",
        "file://models",
        "file://host/models",
        "http://bucket/a",
        "s3://",
        "s3:///a",
        "s3://UPPER/a",
        "s3://b/a",
        "s3://bucket:99999/a",
        "s3://bucket/../a",
        "s3://bucket/a//b",
        "s3://bucket/a\x01b",
    ],
)
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(ValidationError):
        StoreSettings(url=url)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "s3://AKID:secret@bucket/a"},
        {"url": "az://container/a?sv=1&sig=secret"},
        {"url": "gs://bucket/a?token=secret"},
        {"url": "s3://bucket/a#secret"},
        {"endpoint": "https://user:secret@host"},
        {"endpoint": "https://host/?sig=secret"},
    ],
)
def test_credentials_in_a_url_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        StoreSettings(**{"url": "s3://bucket", **changes})
    (fault,) = refused.value.errors()
    assert fault["type"] == "secret"
    assert "secret" not in fault["msg"]


@pytest.mark.parametrize("endpoint", ["host:9000", "ftp://host", "http://", "http://host:port"])
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        StoreSettings(url="s3://bucket", endpoint=endpoint)


@pytest.mark.parametrize("name", ["access_key", "secret_access_key", "account_key", "sas", "token"])
def test_there_is_no_setting_for_a_secret(name: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        StoreSettings(**{"url": "s3://bucket", name: "x"})


def test_without_the_library_a_disk_works_and_a_cloud_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "obstore":
            raise ImportError(name)
        return real(name, *rest)

    for name in [name for name in sys.modules if name.startswith(("obstore", "mesh.model_cache.stores.cloud"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    open_store(StoreSettings(url="file:///models"))
    with pytest.raises(MeshError, match=r"pip install 'tbms\[stores\]'"):
        open_store(StoreSettings(url="s3://bucket"))
