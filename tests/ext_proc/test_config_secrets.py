"""An error of the configuration shows the value at fault, but never one that could be a credential."""

import pytest
from pydantic import ValidationError

from ext_proc.config import _wording
from mesh.model_cache.stores import StoreSettings


@pytest.mark.parametrize("field", ["url", "endpoint"])
def test_a_url_with_credentials_is_not_repeated(field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        StoreSettings(**{"url": "s3://bucket", field: "https://user:pa55word@host"})
    (fault,) = refused.value.errors()
    words = _wording("tbms.yaml", fault)
    assert words.startswith(f"tbms.yaml: {field}: a URL with a user")
    assert "pa55word" not in words
