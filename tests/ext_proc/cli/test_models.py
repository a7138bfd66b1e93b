"""The operator's commands against admin ports that answer as nodes and edges do."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from rich.console import Console

from ext_proc.admin.client import AdminPort
from ext_proc.admin.documents import EdgeDocument, NodeDocument
from ext_proc.cli import models
from ext_proc.cli.exits import UnknownName
from ext_proc.cli.models import command, rows_of, show
from ext_proc.errors import TbmsError

NAME_A, NAME_B, NAME_EDGE = "10.0.0.1:9904", "10.0.0.2:9904", "10.0.0.9:9902"


def entry(model: str, state: str = "available", **changes: Any) -> dict[str, Any]:
    values = {"version": 1, "pinned": False, "in_flight": 0, "disk_bytes": 1000, "fetched_bytes": 1000, "cause": ""}
    more = {"waiting": 0, "memory_bytes": 0, "state_seconds": 5.0, "attempts": 0, "retry_seconds": 0.0, "needs": []}
    return {"model": model, "state": state, "idle_seconds": 5.0, **values, **more, **changes}


PROCESS = {"uptime_seconds": 1.0, "draining": False, "config": "tbms.yaml", "streams": 0}
NO_LIMIT = {"models": None, "disk_bytes": None, "memory_bytes": None}


def node_status(*models: dict[str, Any]) -> NodeDocument:
    told = {"models": list(models), "capacity": NO_LIMIT, "free": NO_LIMIT, "model_server": "ok", "store_failures": {}}
    return cast("NodeDocument", {"role": "node", **PROCESS, **told})


def edge_status(models: dict[str, dict[str, str]]) -> EdgeDocument:
    told = {"nodes": [], "left_out": [], "sources": [], "models": models, "models_not_shown": 0}
    return cast("EdgeDocument", {"role": "edge", **PROCESS, **told})


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_nodes_with_one_version_in_one_state_share_a_line() -> None:
    rows = rows_of(
        [
            (NAME_A, node_status(entry("resnet", in_flight=2), entry("bert", "failed", cause="no graph"))),
            (
                NAME_B,
                node_status(entry("resnet", in_flight=3, idle_seconds=1.0, pinned=True), entry("resnet", version=2)),
            ),
            (NAME_EDGE, edge_status({"bert": {"a": "loading"}})),
        ]
    )
    assert [(row.model, row.version, row.state, row.nodes) for row in rows] == [
        ("bert", "", "loading", ["a"]),
        ("bert", "1", "failed", ["10.0.0.1:9904"]),
        ("resnet", "1", "available, pinned", ["10.0.0.1:9904", "10.0.0.2:9904"]),
        ("resnet", "2", "available", ["10.0.0.2:9904"]),
    ]
    assert rows[1].cause == "no graph"
    assert (rows[2].in_flight, rows[2].idle_seconds) == (5, 1.0)


class Port:
    """An admin port: its status, and how it takes commands."""

    def __init__(self) -> None:
        self.status: Any = node_status()
        self.answer: tuple[int, dict[str, Any]] = (200, {"model": "resnet", "version": 3})
        self.told: list[str] = []
        self.looks = 0
        self.until_looks = 0
        self.url = ""

    async def get_status(self, _: web.Request) -> web.Response:
        self.looks += 1
        return web.json_response(self.status)

    async def post(self, request: web.Request) -> web.Response:
        self.told.append(request.path_qs)
        while self.looks < self.until_looks:
            await asyncio.sleep(0.005)
        status, document = self.answer
        return web.json_response(document, status=status)


@asynccontextmanager
async def port() -> AsyncIterator[Port]:
    ours = Port()
    app = web.Application()
    app.router.add_get("/status", ours.get_status)
    app.router.add_post("/models/{model}/{command}", ours.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ours.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield ours
    finally:
        await runner.cleanup()


async def test_the_table_obeys_no_markup_and_no_escape_of_a_node() -> None:
    async with port() as ours:
        ours.status = node_status(entry("[red]resnet[/red]"), entry("bert", "failed", cause="bad\x1b[2J file"))
        out = console()
        await show(out, [ours.url])
        assert "[red]resnet[/red]" in text(out)
        assert "bad?[2J file" in text(out)
        assert "1.0 kB" in text(out)
        assert "5 s ago" in text(out)
        ours.status = node_status()
        await show(out, [ours.url])
        assert text(out).endswith("No models.\n")


@pytest.mark.parametrize("status", [{"models": [{}]}, {"models": 3}, {"models": {"a": 1}}, [], "text"])
async def test_an_answer_that_is_no_status_is_a_sentence(status: Any) -> None:
    async with port() as ours:
        ours.status = status
        with pytest.raises(TbmsError, match="not an admin port"):
            await show(console(), [ours.url])


@pytest.mark.parametrize(
    ("status", "field"),
    [
        (node_status({"model": "resnet"}), r"models\.0\.version: "),
        (node_status(entry("resnet", in_flight="3")), r"models\.0\.in_flight: "),
        ({**edge_status({}), "models": {"resnet": ["a"]}}, r"models\.resnet: "),
        ({**PROCESS, "role": "edge", "models": {}}, r"nodes: "),
        ({"models": []}, r"role: edge or node"),
    ],
)
async def test_another_version_is_told_with_the_field_that_it_lacks(status: Any, field: str) -> None:
    async with port() as ours:
        ours.status = status
        with pytest.raises(TbmsError, match=rf"^{ours.url}: .* this version of tbms: {field}"):
            await show(console(), [ours.url])
        ours.answer = (200, {"version": 3})
        with pytest.raises(TbmsError, match=r"/models/a/pin: .* this version of tbms: model: "):
            await command(console(), "pin", "a", None, AdminPort(ours.url))


async def test_a_command_shows_how_far_the_fetch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "POLL_SECONDS", 0.01)
    async with port() as ours:
        ours.status = node_status(entry("a/[b] c", "fetching", fetched_bytes=250), entry("other", "fetching"))
        ours.until_looks = 5
        out = Console(file=io.StringIO(), width=200, force_terminal=True)
        await command(out, "load", "a/[b] c", 3, AdminPort(ours.url))
        assert ours.told == ["/models/a%2F%5Bb%5D%20c/load?version=3"]
        assert "fetching a/[b] c 1" in text(out)
        assert "0.2/1.0 kB" in text(out)
        assert "other" not in text(out)
        assert "a/[b] c version 3: load done." in text(out)


async def test_a_refusal_is_told_in_the_nodes_words() -> None:
    async with port() as ours:
        ours.answer = (409, {"error": "Model 'a' is pinned.", "cause": "Model 'a' is pinned."})
        with pytest.raises(TbmsError, match=r"^Model 'a' is pinned\.$"):
            await command(console(), "unload", "a", None, AdminPort(ours.url))
        ours.answer = (503, {"error": "The store is away.", "cause": "403 Forbidden"})
        with pytest.raises(TbmsError, match=r"^The store is away\. 403 Forbidden$"):
            await command(console(), "load", "a", None, AdminPort(ours.url))


async def test_whoever_is_not_there_is_named() -> None:
    with pytest.raises(TbmsError, match=r"^http://127\.0\.0\.1:1: cannot be asked"):
        await show(console(), ["127.0.0.1:1"])
    with pytest.raises(TbmsError, match="cannot be asked"):
        await command(console(), "pin", "a", None, AdminPort("127.0.0.1:1"))


async def test_an_edge_takes_no_commands() -> None:
    async with port() as ours:
        with pytest.raises(TbmsError, match="not the admin port of a node"):
            await command(console(), "load/now", "a", None, AdminPort(ours.url))


async def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    async with port() as ours:
        ours.status = node_status(entry("resnet"), entry("bert"))
        with pytest.raises(UnknownName, match=r"^No model 'resnt' is known\. Did you mean 'resnet'\?$"):
            await show(console(), [ours.url], ["bert", "resnt"])
        out = console()
        await show(out, [ours.url], ["bert"])
        assert "resnet" not in text(out)
        ours.answer = (503, {"error": "This node has no room for model 'resnt' now.", "cause": ""})
        with pytest.raises(TbmsError, match=r"no room for model 'resnt' now\.$"):  # which is there
            await command(console(), "load", "resnt", None, AdminPort(ours.url))
        ours.answer = (404, {"error": "Model 'resnt' is not loaded on this node.", "cause": ""})
        with pytest.raises(UnknownName, match=r"not loaded on this node\. Did you mean 'resnet'\?$"):
            await command(console(), "unload", "resnt", None, AdminPort(ours.url))


async def test_the_table_is_a_document_for_programs() -> None:
    async with port() as ours:
        ours.status = node_status(entry("[red]resnet", in_flight=2))
        out = console()
        await show(out, [ours.url], as_json=True)
        (row,) = json.loads(text(out))
        assert (row["model"], row["in_flight"], row["nodes"]) == ("[red]resnet", 2, [ours.url.removeprefix("http://")])
        out = console()
        await command(out, "load", "a", 3, AdminPort(ours.url), as_json=True)
        assert json.loads(text(out)) == {"model": "resnet", "version": 3}
