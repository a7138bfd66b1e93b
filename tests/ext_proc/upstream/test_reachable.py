"""Whether candidates can go out: told by the last dial, and found out again without a call. Real sockets."""

import asyncio
from pathlib import Path

import pytest

from ext_proc.config import parse
from ext_proc.edge.role import EdgeRole
from ext_proc.http2.aio.server import Http2Server
from ext_proc.telemetry.egress import EgressReport
from ext_proc.upstream.client import Request, Upstream, UpstreamError

CALL = Request("/v1/models/m:predict", "POST", "models", (), (b"{}",), 1.0, is_grpc=False)


def gauge(upstream: Upstream) -> list[float]:
    (family,) = EgressReport(lambda: upstream.reachable).collect()
    return [sample.value for sample in family.samples]


async def until_reachable(upstream: Upstream) -> None:
    async with asyncio.timeout(60):
        while not upstream.reachable:
            await asyncio.sleep(0.01)


async def test_a_listener_that_comes_later_is_found_without_a_call(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/egress"
    async with Upstream(address, lambda: 1024) as upstream:
        assert (upstream.reachable, gauge(upstream)) == (None, [])
        with pytest.raises(UpstreamError, match="cannot be reached"):
            await upstream.call(CALL)
        assert (upstream.reachable, gauge(upstream)) == (False, [0.0])
        server = Http2Server(address, {})
        await server.start()
        try:
            await until_reachable(upstream)
            assert gauge(upstream) == [1.0]
        finally:
            await server.stop(0.0)


async def test_nothing_is_dialled_any_more_at_the_end(tmp_path: Path) -> None:
    async with Upstream(f"unix:{tmp_path}/egress", lambda: 1024) as upstream:
        with pytest.raises(UpstreamError):
            await upstream.call(CALL)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_an_edge_is_not_ready_while_its_candidates_cannot_go_out(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/egress"
    role = EdgeRole(parse(f"server: {{egress: '{address}'}}", "tbms.yaml"), asyncio.get_running_loop().time)
    async with role.running():
        assert role.ready(), "nobody has asked for a race yet"
        with pytest.raises(UpstreamError):
            await role._upstream.call(CALL)
        assert not role.ready()
        server = Http2Server(address, {})
        await server.start()
        try:
            await until_reachable(role._upstream)
            assert role.ready()
        finally:
            await server.stop(0.0)
