"""The map's file on disk, and what Envoy's admin interface says of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from ext_proc.cli.envoy_config import LaidMap, laid_map, lay_map
from ext_proc.config import Config, parse
from ext_proc.errors import ConfigError, TbmsError
from ext_proc.known.envoy_stats import EnvoyAway, NoFilter, Taken, ask_envoy
from ext_proc.known.file import make_if_absent
from ext_proc.whole_file import replace_file
from integration.stack.ports import free_port

SCOPE = "extension_config_discovery.http_filter.tbms-known."
NODE = "node: {store: {url: 'file:///models'}, cache: {folder: /var/lib/tbms}}"
OFF = parse("known: {enabled: false}", "tbms.yaml")
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
    file, elsewhere = tmp_path / "known.pb", tmp_path / "elsewhere" / "known.pb"
    assert lay_map(OFF) == LaidMap(None)
    assert lay_map(config(file)) == LaidMap(file)
    assert file.exists()
    assert lay_map(config(file)) == LaidMap(file)
    laid = lay_map(config(elsewhere))
    assert laid.file == elsewhere, "it is named, so somebody lays it"
    assert laid.warning is not None
    assert "elsewhere/known.pb before it starts" in laid.warning


def test_a_map_that_nobody_has_named_is_read_only_where_it_could_be_laid(tmp_path: Path) -> None:
    beside = tmp_path / "s.known.pb"
    assert lay_map(listening(f"unix:{tmp_path}/s")) == LaidMap(beside)
    assert beside.exists()
    for socket in ("elsewhere/s", "s.known.pb/s"):
        laid = lay_map(listening(f"unix:{tmp_path}/{socket}"))
        assert laid.file is None
        assert laid.warning is not None
        assert f"{socket}.known.pb cannot be laid here" in laid.warning
    tmp_path.chmod(0o1777)
    laid = lay_map(listening(f"unix:{tmp_path}/s"))
    assert laid.file is None, "whoever writes there first has Envoy run what they want"
    assert laid.warning is not None
    assert "anybody may write into its folder" in laid.warning
    assert not (tmp_path / "elsewhere").exists(), "its owner would be whoever has written a bootstrap"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("known: {enabled: false}", "known.enabled is off"),
        ("known: {enabled: false, file: /run/known.pb}", "known.enabled is off"),
        ("server: {listen: '127.0.0.1:9500'}", "server.listen is no Unix socket"),
        ("envoy: {watch_responses: true}", "envoy.watch_responses wants"),
        ("envoy: {request_ids: false}", "envoy.request_ids is off"),
        ("envoy: {accounts: false}", "envoy.accounts is off, and nobody would count"),
        (NODE, "a node keeps one only with known.file: it pays where"),
    ],
)
def test_where_none_is_kept_it_is_said_why(text: str, why: str) -> None:
    found = parse(text, "tbms.yaml")
    assert found.known_file is None
    assert found.known_off is not None
    assert found.known_off.startswith(why)


def test_each_edge_has_a_map_of_its_own_beside_its_socket() -> None:
    sockets = ["/run/tbms/edge.sock", "/run/tbms/other.sock", "/run/tbms/other"]
    found = [parse(f"server: {{listen: 'unix:{path}'}}", "tbms.yaml") for path in sockets]
    assert [str(each.known_file) for each in found] == [f"{path}.known.pb" for path in sockets]
    assert [each.known_off for each in found] == [None] * 3


def test_a_file_that_is_named_is_wanted_wherever_the_server_listens() -> None:
    found = parse("server: {listen: '127.0.0.1:9500'}\nknown: {file: /srv/map.pb}\nenvoy: {accounts: false}", "x")
    assert (str(found.known_file), found.known_off) == ("/srv/map.pb", None)


def test_the_command_lays_a_map_once_and_says_what_lies_there(tmp_path: Path) -> None:
    file = tmp_path / "run" / "known.pb"
    assert laid_map(config(file)) == f"{file}: an empty map"
    assert laid_map(config(file)) == f"{file}: there already"
    with pytest.raises(ConfigError, match=r"wants no map of known calls: known\.enabled is off"):
        laid_map(OFF)
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


@pytest.mark.parametrize("counted", [None, "models"])
async def test_an_envoy_without_a_filter_that_reads_a_map(tmp_path: Path, counted: str | None) -> None:
    stats = [] if counted is None else [{"name": f"http.{counted}.downstream_rq_active", "value": 3}]

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"stats": [*stats, {"histograms": {}}]})

    async with admin(answer, tmp_path / "admin.sock") as address:
        with pytest.raises(NoFilter):
            await ask_envoy(address, counted)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"stats": [1]}', '{"stats": [{"name": "x"}]}'])
async def test_an_answer_that_is_none(tmp_path: Path, text: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    async with admin(answer, tmp_path / "admin.sock") as address:
        with pytest.raises(EnvoyAway) as caught:
            await ask_envoy(address)
        assert not isinstance(caught.value, NoFilter)


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


def listening(address: str) -> Config:
    return parse(f"server: {{listen: '{address}'}}", "tbms.yaml")


def config(file: Path) -> Config:
    return parse(f"known: {{file: {file}}}", "tbms.yaml")


def test_a_node_may_have_a_map(tmp_path: Path) -> None:
    found = parse(f"known: {{file: {tmp_path}/known.pb}}\nenvoy: {{request_ids: false}}\n{NODE}", "tbms.yaml")
    assert lay_map(found) == LaidMap(tmp_path / "known.pb")
    assert (tmp_path / "known.pb").exists()
