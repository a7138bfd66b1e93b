"""Every sample, patched by our policies, is accepted by the Envoy that its Kuma brings along."""

import asyncio
import json
from pathlib import Path

import pytest

from ext_proc.known.file import make_if_absent
from ext_proc.kuma.rendering.description import KNOWN_MAP
from integration.kuma.bootstrap import Places, standalone, trusted_names
from integration.kuma.identities import Authority
from integration.kuma.sidecars import ENVOYS, SAMPLES, patched
from integration.stack.envoys import envoy_binary
from integration.stack.process import output_of
from tests.integration.conftest import need_envoy

ROLES = {"client": "edge", "node": "node", "models": "node", "edge": "gateway"}

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("kuma", ENVOYS)
async def test_patched_sidecars_are_accepted(kuma: str, tmp_path: Path) -> None:
    envoy = ENVOYS[kuma]
    need_envoy(envoy)
    make_if_absent(tmp_path / Path(KNOWN_MAP).name)
    identity = Authority(tmp_path).issue("sidecar", ["spiffe://default/models"])
    places = Places(folders={"/run/tbms": str(tmp_path)})
    files = sorted((SAMPLES / kuma).rglob("*.before.json"))
    assert files
    for index, file in enumerate(files):
        name = file.name.removesuffix(".before.json")
        sample = str(file.parent.relative_to(SAMPLES))
        resources = patched(sample, name, ROLES[name.partition("-")[0]]).document()
        config = tmp_path / f"{index}.json"
        config.write_text(json.dumps(standalone(resources, "127.0.0.1:9901", places, identity)))
        log = tmp_path / f"{index}.log"
        command = [envoy_binary(envoy), "--mode", "validate", "--config-path", config, "--log-level", "warning"]
        assert "OK" in await output_of(f"{sample}/{name}", command, log)


async def test_a_broken_one_is_not(tmp_path: Path) -> None:
    """So that the test above can fail."""
    need_envoy("1.38")
    resources = patched("2.14/legacy-mtls", "client", None).document()
    assert trusted_names(resources)
    bootstrap = standalone(resources, "127.0.0.1:9901", Places(), None)  # its secrets are nowhere
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(bootstrap))
    child = await asyncio.create_subprocess_exec(
        envoy_binary("1.38"), "--mode", "validate", "--config-path", config, stderr=asyncio.subprocess.DEVNULL
    )
    assert await child.wait() != 0
