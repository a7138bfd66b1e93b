"""The `envoy:` section: what it refuses."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from ext_proc.envoy_config import EnvoySettings


@pytest.mark.parametrize(
    "setting",
    [
        {"egress": "0.0.0.0:8090"},
        {"egress": "10.0.0.1:8090"},
        {"admin": "0.0.0.0:9901"},
        {"direct_listen": "0.0.0.0:1"},
        {"listen": "example.org:80"},
        {"endpoints_dir": "relative"},
        {"body_models": ["a/b"]},
        {"body_models": [""]},
        {"server_wait_seconds": 0},
        {"unknown": 1},
    ],
)
def test_settings_that_would_be_unsafe_or_wrong_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnvoySettings.model_validate(setting)


def test_the_server_starts_without_envoys_types() -> None:
    """Importing them takes most of a second; only what renders needs them."""
    program = "import sys, ext_proc.process.app; sys.exit('envoy_data_plane' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
