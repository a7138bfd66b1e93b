"""Envoy versions: which are supported, and how each lets the server get at bodies."""

import re

import pytest

from ext_proc.envoy_config import EnvoySettings, render
from ext_proc.envoy_config.parts.versions import BodyAccess, body_access, short
from ext_proc.errors import ConfigError
from tests.ext_proc.envoy_config.documents import SOCKET


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.36", BodyAccess.BUFFERED),
        ("1.36.8", BodyAccess.BUFFERED),
        ("v1.37.0", BodyAccess.STREAMED),
        ("1.39", BodyAccess.STREAMED),
        ("1.40", BodyAccess.OVERRIDE),
        ("1.101.2", BodyAccess.OVERRIDE),
    ],
)
def test_versions(version: str, expected: BodyAccess) -> None:
    assert body_access(version) is expected
    assert re.fullmatch(r"1\.\d+", short(version))


@pytest.mark.parametrize("version", ["1.35", "1.35.9", "2.0", "1", "", "latest", "1.40-dev", "1.4O", "1.٤٠", "1.40\n"])
def test_versions_that_are_not_supported_are_named_with_those_that_are(version: str) -> None:
    with pytest.raises(ConfigError, match=r"is not supported; 1\.36 and later 1\.x are"):
        render(EnvoySettings(), version=version, server=SOCKET, nodes=())
