import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from integration.peers.etcd import Etcd
from mesh.discovery.etcd_client import prefix_end
from mesh.discovery.sources.etcd import EtcdSettings, EtcdSource
from mesh.errors import MeshError
from mesh.node import Node
from tests.mesh.discovery.etcd import ids, real_etcd, until

pytestmark = pytest.mark.etcd
KEY = "/tbms/nodes/"


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[Etcd]:
    async with real_etcd(tmp_path) as etcd:
        yield etcd


def source(etcd: Etcd, **fields: object) -> EtcdSource:
    return EtcdSource(
        EtcdSettings.model_validate(
            {"kind": "etcd", "endpoints": [etcd.url], "timeout": 2, "liveness_seconds": 0.2, **fields}
        )
    )


def value(number: int) -> str:
    return json.dumps({"grpc": f"10.0.{number // 250}.{number % 250 + 1}:8500"})


async def test_nodes_are_listed_join_change_and_leave(etcd: Etcd) -> None:
    full = {"grpc": "[fd00::1]:8500", "rest": "[fd00::1]:8501", "residency": "[fd00::1]:9903", "zone": "west"}
    await etcd.put(KEY + "a", json.dumps({**full, "weight": 2, "models": ["m"]}))
    async with aclosing(source(etcd).snapshots()) as snapshots:
        first = (await anext(snapshots)).nodes
        assert first == (Node("a", full["grpc"], full["rest"], "west", 2.0, frozenset("m"), full["residency"]),)
        await etcd.put(KEY + "b", value(1))
        assert ids(await until(snapshots, lambda found: len(found.nodes) == 2)) == ["a", "b"]
        await etcd.put(KEY + "b", value(2))
        await until(snapshots, lambda found: found.nodes[-1].grpc == "10.0.0.3:8500")
        await etcd.delete(KEY + "a")
        assert ids(await until(snapshots, lambda found: len(found.nodes) == 1)) == ["b"]


async def test_more_nodes_than_a_page_holds_and_neighbours_of_the_prefix(etcd: Etcd) -> None:
    await asyncio.gather(*(etcd.put(f"{KEY}n{number}", value(number)) for number in range(1201)))
    await etcd.put("/tbms/nodes", value(1))
    await etcd.put("/tbms/nodes0", value(1))
    async with aclosing(source(etcd).snapshots()) as snapshots:
        assert len((await anext(snapshots)).nodes) == 1201


async def test_what_makes_no_node_is_left_out_and_says_why(etcd: Etcd) -> None:
    wrong = {
        "array": "[]",
        "deep": "[" * 50_000,
        "dns": '{"grpc": "models.test:8500"}',
        "extra": '{"grpc": "10.0.0.1:1", "x": 1}',
        "id": '{"grpc": "10.0.0.1:1", "id": "other"}',
        "large": " " * 70_000,
        "none": "{}",
        "text": "hello",
        "../up": value(1),
    }
    for name, text in wrong.items():
        await etcd.put(KEY + name, text)
    await etcd.put(KEY + "good", value(7))
    async with aclosing(source(etcd).snapshots()) as snapshots:
        found = await anext(snapshots)
        assert ids(found) == ["good"]
        assert len(found.conflicts) == len(wrong)
        assert all(len(sentence) < 300 for sentence in found.conflicts)


async def test_what_tf_serving_cache_writes_is_read(etcd: Etcd) -> None:
    # Its key is /service/NAME/UUID, its value ip:rest_port:grpc_port.
    await etcd.put("/service/tfservingcache/7f0c", "10.0.0.9:8093:8100")
    await etcd.put("/service/tfservingcache/bad", "myip:8093")
    chosen = source(etcd, prefix="/service/tfservingcache/", layout="tfservingcache")
    async with aclosing(chosen.snapshots()) as snapshots:
        found = await anext(snapshots)
        assert found.nodes == (Node("7f0c", "10.0.0.9:8100", "10.0.0.9:8093"),)
        assert found.conflicts == ("'bad': the value is not ip:rest_port:grpc_port",)


async def test_a_silent_watch_is_proven_alive_again_and_again(etcd: Etcd) -> None:
    async with aclosing(source(etcd).snapshots()) as snapshots:
        assert [ids(await anext(snapshots)) for _ in range(4)] == [[]] * 4


async def test_an_etcd_that_hangs_is_noticed(etcd: Etcd) -> None:
    async with aclosing(source(etcd, timeout=1.5).snapshots()) as snapshots:
        await anext(snapshots)
        etcd.process.signal(signal.SIGSTOP)
        with pytest.raises(MeshError, match="TimeoutError"):
            await until(snapshots, lambda _: False)
        etcd.process.signal(signal.SIGCONT)


async def test_after_a_restart_it_lists_everything_again(etcd: Etcd) -> None:
    chosen = source(etcd)
    async with aclosing(chosen.snapshots()) as snapshots:
        await anext(snapshots)
        await etcd.process.stop()
        with pytest.raises(MeshError):
            await until(snapshots, lambda _: False)
    with pytest.raises(MeshError, match="Connection refused"):
        await anext(chosen.snapshots())
    await etcd.start()
    await etcd.put(KEY + "a", value(1))
    async with aclosing(chosen.snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == ["a"]


async def test_a_compaction_does_no_harm_to_a_watch_that_keeps_up(etcd: Etcd) -> None:
    async with aclosing(source(etcd).snapshots()) as snapshots:
        await anext(snapshots)
        await anext(snapshots)
        for number in range(20):
            await etcd.put(KEY + "a", value(number))
        await etcd.compact()
        await etcd.put(KEY + "b", value(99))
        assert ids(await until(snapshots, lambda found: len(found.nodes) == 2)) == ["a", "b"]


async def test_a_watch_from_a_compacted_revision_fails_and_the_next_start_is_whole(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = source(etcd)
    listed = chosen._listed

    async def then_compacted(*args: object) -> object:
        """Between the list and the watch others write, and etcd forgets what they wrote over."""
        result = await listed(*args)  # type: ignore[arg-type]
        for number in range(5):
            await etcd.put(KEY + "a", value(number))
        await etcd.compact()
        return result

    with monkeypatch.context() as patched:
        patched.setattr(chosen, "_listed", then_compacted)
        async with aclosing(chosen.snapshots()) as snapshots:
            await anext(snapshots)
            with pytest.raises(MeshError, match="compacted"):
                await until(snapshots, lambda _: False)
    async with aclosing(chosen.snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == ["a"]


async def test_the_next_member_is_asked_where_one_is_away(etcd: Etcd) -> None:
    chosen = source(etcd, endpoints=["http://127.0.0.1:9", etcd.url])
    with pytest.raises(MeshError):
        await anext(chosen.snapshots())
    async with aclosing(chosen.snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == []


async def test_a_user_and_a_password_out_of_a_file(etcd: Etcd, tmp_path: Path) -> None:
    await etcd.call("auth/user/add", {"name": "root", "password": "s3cret"})
    await etcd.call("auth/role/add", {"name": "root"})
    await etcd.call("auth/user/grant", {"user": "root", "role": "root"})
    await etcd.call("auth/enable", {})
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    chosen = source(etcd, user="root", password_file=str(secret))
    with pytest.raises(MeshError) as refused:
        await anext(chosen.snapshots())
    assert "wrong" not in str(refused.value)
    secret.write_text("s3cret\n")
    async with aclosing(chosen.snapshots()) as snapshots:
        assert ids(await anext(snapshots)) == []
        await anext(snapshots)


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"/tbms/nodes/", b"/tbms/nodes0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end
