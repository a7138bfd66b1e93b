"""The map's file on disk, and what Envoy's admin interface says of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from ext_proc.cli.envoy_config import laid_map, lay_map
from ext_proc.config import Config, parse
from ext_proc.errors import ConfigError, TbmsError
from ext_proc.known.envoy_stats import EnvoyAway, Taken, ask_envoy
from ext_proc.known.file import make_if_absent
from ext_proc.whole_file import replace_file
from integration.stack.ports import free_port

SCOPE = "extension_config_discovery.http_filter.tbms-known."
NODE = "node: {store: {url: 'file:///models'}, cache: {folder: /var/lib/tbms}}"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def test_an_empty_map_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "run" / "known.pb"
    assert make_if_absent(file)
    assert b"tbms-known" in file.read_bytes()
    replace_file(file, b"another")
    assert not make_if_absent(file)
    assert file.read_bytes() == b"another"
    assert [path.name for path in file.parent.iterdir()] == ["known.pb"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "known.pb"
    target.mkdir()
    with pytest.raises(OSError):
        replace_file(target, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["known.pb"]


def test_the_map_lies_there_before_envoy_does_or_somebody_is_told(tmp_path: Path) -> None:
    file = tmp_path / "known.pb"
    assert lay_map(Config()) is None
    assert lay_map(config(file)) is None
    assert file.exists()
    assert lay_map(config(file)) is None
    told = lay_map(config(tmp_path / "elsewhere" / "known.pb"))
    assert told is not None
    assert "elsewhere/known.pb before it starts" in told


def test_the_command_lays_a_map_once_and_says_what_lies_there(tmp_path: Path) -> None:
    file = tmp_path / "run" / "known.pb"
    assert laid_map(config(file)) == f"{file}: an empty map"
    assert laid_map(config(file)) == f"{file}: there already"
    with pytest.raises(ConfigError, match="wants no map"):
        laid_map(Config())
    with pytest.raises(TbmsError, match=r"known\.file: .* cannot be written"):
        laid_map(config(file / "within-a-file.pb"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("known: {file: known.pb}", "known.file"),
        ("known: {file: /run/known.yaml}", "known.file"),
        ("known: {file: /run/known.pb, models: 0}", "known.models"),
        ("known: {file: /run/known.pb, seconds: 0}", "known.seconds"),
        ("known: {file: /run/known.pb}\nenvoy: {watch_responses: true}", "watch_responses"),
        ("known: {file: /run/known.pb}\nenvoy: {request_ids: false}", "request_ids"),
        (f"known: {{file: /run/known.pb}}\nenvoy: {{accounts: false}}\n{NODE}", "accounts"),
    ],
)
def test_settings_that_cannot_be(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse(text, "tbms.yaml")


@asynccontextmanager
async def admin(handler: Handler, path: Path) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/stats", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield f"unix:{path}"
    finally:
        await runner.cleanup()


async def test_what_envoy_has_is_read(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert "tbms-known" in request.query["filter"]
        stats = [{"name": SCOPE + "version_text", "value": "t.7"}, {"name": SCOPE + "update_rejected", "value": 2}]
        return web.json_response({"stats": [*stats, {"histograms": {}}]})

    async with admin(answer, tmp_path / "admin.sock") as address:
        assert await ask_envoy(address) == Taken("t.7", 2)


@pytest.mark.parametrize(("taken", "reloads", "everywhere"), [(3, 3, True), (4, 3, False)])
async def test_a_file_is_in_force_once_each_worker_has_it(
    tmp_path: Path, taken: int, reloads: int, everywhere: bool
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        names = re.compile(request.query["filter"])
        stats = {
            SCOPE + "version_text": "t.7",
            SCOPE + "update_rejected": 0,
            SCOPE + "update_success": taken,
            SCOPE + "config_reload": reloads,
            "http.models.downstream_rq_active": 5,
            "http.other.downstream_rq_active": 6,
        }
        found = [{"name": name, "value": value} for name, value in stats.items() if names.search(name)]
        return web.json_response({"stats": found})

    async with admin(answer, tmp_path / "admin.sock") as address:
        assert await ask_envoy(address) == Taken("t.7", 0, everywhere)
        assert await ask_envoy(address, "models") == Taken("t.7", 0, everywhere, 5)
        assert await ask_envoy(address, "elsewhere") == Taken("t.7", 0, everywhere)


async def test_an_answer_may_come_in_parts(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        stats = [{"name": SCOPE + "version_text", "value": "t.7"}, {"name": SCOPE + "update_rejected", "value": 2}]
        reply = web.StreamResponse()
        await reply.prepare(request)
        for part in json.dumps({"stats": stats}).partition("update"):
            await reply.write(part.encode())
            await asyncio.sleep(0.05)  # so that it is read by itself
        return reply

    async with admin(answer, tmp_path / "admin.sock") as address:
        assert await ask_envoy(address) == Taken("t.7", 2)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"stats": []}', '{"stats": [1]}', '{"stats": [{"name": "x"}]}'])
async def test_an_answer_that_is_none(tmp_path: Path, text: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    async with admin(answer, tmp_path / "admin.sock") as address:
        with pytest.raises(EnvoyAway):
            await ask_envoy(address)


async def test_nobody_answers(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/nobody.sock", f"127.0.0.1:{free_port()}"):
        with pytest.raises(EnvoyAway) as caught:
            await ask_envoy(address)
        assert caught.value.refused


async def test_somebody_answers_who_is_no_envoy(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    async with admin(answer, tmp_path / "admin.sock") as address:
        with pytest.raises(EnvoyAway) as caught:
            await ask_envoy(address)
        assert not caught.value.refused


def config(file: Path) -> Config:
    return parse(f"known: {{file: {file}}}", "tbms.yaml")


def test_a_node_may_have_a_map(tmp_path: Path) -> None:
    found = parse(f"known: {{file: {tmp_path}/known.pb}}\nenvoy: {{request_ids: false}}\n{NODE}", "tbms.yaml")
    assert lay_map(found) is None
    assert (tmp_path / "known.pb").exists()
