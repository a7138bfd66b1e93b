"""How an admin port is named, and found where nobody names one. What is asked is tested with the commands that ask."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from ext_proc.admin import EDGE_ADDRESS, NODE_ADDRESS
from ext_proc.admin.client import AdminPort, base_url
from ext_proc.cli import admin_client
from ext_proc.cli.admin_client import default_port, ports
from ext_proc.config import parse
from ext_proc.errors import AwayError, TbmsError
from tests.ext_proc.cli.test_models import node_status

NODE = "node: {store: {url: 'file:///m'}, cache: {folder: /c, loader: {api: v2, address: '127.0.0.1:8500'}}}"


@pytest.mark.parametrize(
    ("admin", "url"),
    [("node:1", "http://node:1"), ("http://node:1/", "http://node:1"), ("unix:/run/a.sock", "unix:/run/a.sock")],
)
def test_an_admin_port_may_be_written_short(admin: str, url: str) -> None:
    assert base_url(admin) == url


@pytest.mark.parametrize("admin", ["unix://run/tbms", "ftp://node:1"])
def test_other_schemes_are_refused(admin: str) -> None:
    if admin.startswith("unix:/"):
        assert base_url(admin) == admin  # a path, if an odd one
        return
    with pytest.raises(TbmsError, match="http://host:port"):
        base_url(admin)


def test_an_edge_and_a_node_on_one_machine_do_not_meet() -> None:
    assert parse("{}", "x").admin == EDGE_ADDRESS == admin_client.DEFAULTS[0]
    assert parse(NODE, "x").admin == NODE_ADDRESS == admin_client.DEFAULTS[1]
    assert parse("server: {admin: '127.0.0.1:1'}", "x").admin == "127.0.0.1:1"


@pytest_asyncio.fixture
async def socket(tmp_path: Path) -> AsyncIterator[str]:
    """An admin port on a Unix socket."""
    app = web.Application()

    async def status(_: web.Request) -> web.Response:
        return web.json_response(node_status())

    app.router.add_get("/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "admin.sock")).start()
    yield f"unix:{tmp_path}/admin.sock"
    await runner.cleanup()


async def test_whoever_names_no_port_gets_those_that_answer(socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "DEFAULTS", ("127.0.0.1:1", socket))
    async with ports(()) as found:
        assert [port.name for port in found] == [socket]
        assert (await found[0].status())["role"] == "node"
    monkeypatch.setattr(admin_client, "DEFAULTS", ("127.0.0.1:1", "127.0.0.1:2"))
    with pytest.raises(AwayError, match=r"^Neither 127\.0\.0\.1:1 .* answers\. .*server\.admin.*--admin.*--config"):
        async with ports(()):
            pass


async def test_a_default_port_is_told_as_one() -> None:
    async with default_port("127.0.0.1:1") as port:
        with pytest.raises(AwayError, match=r"cannot be asked: .* This is a default port"):
            await port.status()
    async with AdminPort("127.0.0.1:1") as port:
        with pytest.raises(AwayError) as caught:
            await port.status()
    assert "--admin" not in str(caught.value)


async def test_a_port_of_somebody_else_is_named_and_its_words_are_not_taken_for_ours() -> None:
    async def status(_: web.Request) -> web.Response:
        return web.json_response({"error": "Not Found"}, status=404)

    app = web.Application()
    app.router.add_get("/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        async with AdminPort(f"{host}:{port}") as admin:
            with pytest.raises(
                TbmsError, match=f"^http://{host}:{port}: this is not an admin port of tbms: it answers 404"
            ):
                await admin.status()
    finally:
        await runner.cleanup()
