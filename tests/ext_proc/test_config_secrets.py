"""An error of the configuration shows the value at fault, but never one that could be a credential."""

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ext_proc.config import _wording, parse
from ext_proc.errors import ConfigError
from mesh.model_cache.stores import StoreSettings


@pytest.mark.parametrize("field", ["url", "endpoint"])
def test_a_url_with_credentials_is_not_repeated(field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        StoreSettings(**{"url": "s3://bucket", field: "https://user:pa55word@host"})
    (fault,) = refused.value.errors()
    words = _wording("tbms.yaml", fault)
    assert words.startswith(f"tbms.yaml: {field}: a URL with a user")
    assert "pa55word" not in words


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "etcd", "endpoints": ["https://me:s3cret@etcd:2379"]},
        {"kind": "consul", "service": "models", "url": "https://me:s3cret@consul:8500"},
        {"kind": "kuma", "url": "https://me:s3/cret@kuma:5682"},
        {"kind": "zookeeper", "url": "https://me:s3cret@zoo:2181"},
        {"url": "https://me:s3cret@zoo:2181"},
    ],
)
def test_a_password_in_the_url_of_a_source_is_refused_and_not_shown(entry: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(yaml.safe_dump({"discovery": [entry]}), "tbms.yaml")
    assert "discovery.0" in str(refused.value)
    assert "s3" not in str(refused.value)
    assert "cret" not in str(refused.value)
