import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from integration.peers.etcd import Etcd
from mesh.discovery.registration import RegistrationSettings, open_registrations
from mesh.discovery.registration.keeping import Registration
from mesh.discovery.sources.etcd import EtcdSettings, EtcdSource
from tests.mesh.discovery.etcd import PATIENCE, real_etcd
from tests.mesh.discovery.registration.work import eventually, running

pytestmark = pytest.mark.etcd
KEY = "/tbms/nodes/node-a"


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[Etcd]:
    async with real_etcd(tmp_path) as etcd:
        yield etcd


def registration(etcd: Etcd) -> tuple[RegistrationSettings, Registration]:
    via = [{"kind": "etcd", "endpoints": [etcd.url], "lease_seconds": 3, "timeout": 2}]
    settings = RegistrationSettings.model_validate(
        {"id": "node-a", "grpc": "[fd00::1]:8500", "rest": "10.0.0.1:8501", "zone": "west", "models": ["m"], "via": via}
    )
    (opened,) = open_registrations(settings)
    return settings, opened


async def test_what_is_registered_is_what_the_source_finds_and_it_is_withdrawn(etcd: Etcd) -> None:
    settings, opened = registration(etcd)
    async with running(opened.run()):
        await eventually(lambda: _there(etcd))
        source = EtcdSource(EtcdSettings(kind="etcd", endpoints=(etcd.url,)))
        async with aclosing(source.snapshots()) as snapshots:
            assert (await anext(snapshots)).nodes == (settings.node(),)
    assert await _there(etcd)
    await opened.withdraw()
    assert not await _there(etcd)
    await opened.withdraw()


async def test_it_outlives_its_lease_while_it_runs_and_not_when_it_is_gone(etcd: Etcd) -> None:
    _, opened = registration(etcd)
    async with running(opened.run()):
        await eventually(lambda: _there(etcd))
        await asyncio.sleep(4.5)  # longer than the lease
        assert await _there(etcd)
    await eventually(lambda: _gone(etcd))


async def test_a_key_or_a_lease_that_was_lost_is_taken_anew(etcd: Etcd) -> None:
    _, opened = registration(etcd)
    async with running(opened.run()):
        await eventually(lambda: _there(etcd))
        await etcd.delete(KEY)
        await eventually(lambda: _there(etcd))
        (lease,) = (await etcd.call("kv/lease/leases", {}))["leases"][-1:]
        await etcd.call("lease/revoke", {"ID": lease["ID"]})
        await eventually(lambda: _there(etcd))


async def test_it_waits_for_an_etcd_that_is_away_and_survives_its_restart(etcd: Etcd) -> None:
    await etcd.process.stop()
    _, opened = registration(etcd)
    async with running(opened.run()) as task:
        await asyncio.sleep(0.5)
        await etcd.start()
        await eventually(lambda: _there(etcd))
        await etcd.process.stop()
        await etcd.start()
        await etcd.delete(KEY)
        await eventually(lambda: _there(etcd))
        assert not task.done()


async def test_a_withdrawal_does_not_wait_for_an_etcd_that_is_away(etcd: Etcd) -> None:
    _, opened = registration(etcd)
    async with running(opened.run()):
        await eventually(lambda: _there(etcd))
    await etcd.process.stop()
    async with asyncio.timeout(PATIENCE):
        await opened.withdraw()


async def _there(etcd: Etcd) -> bool:
    value = await etcd.get(KEY)
    return value is not None and json.loads(value)["zone"] == "west"


async def _gone(etcd: Etcd) -> bool:
    return not await _there(etcd)
