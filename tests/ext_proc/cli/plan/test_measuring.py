"""Asking a model server: a scripted one, whose models mind company, are unsteady, or refuse."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ext_proc.cli.plan import model_client
from ext_proc.cli.plan.measuring import Target, company_finding, measured
from ext_proc.errors import TbmsError
from ext_proc.planning.exactness import Verdict
from ext_proc.wire.call import InferenceProtocol

MOST_ROWS = 8
Model = Callable[[list[float]], list[float]]
DICE = Random(1)
MODELS: dict[str, Model] = {
    "doubler": lambda rows: [2 * x for x in rows],
    "scaler": lambda rows: [x / max(rows) for x in rows],
    "last": lambda rows: [*rows[:-1], rows[-1] + (1 if len(rows) > 3 else 0)],
    "dice": lambda rows: [DICE.random() for _ in rows],
    "short": lambda rows: rows[:1],
}


async def infer(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    if name not in MODELS:
        return web.json_response({"error": f"Request for unknown model: '{name}' is not found"}, status=404)
    (tensor,) = json.loads(await request.read())["inputs"]
    if tensor["shape"][0] > MOST_ROWS:
        return web.json_response({"error": "batch-size must be <= 8\x1b[2J"}, status=400)
    sizes.append(tensor["shape"][0])
    found = MODELS[name](tensor["data"])
    output = {"name": "y", "datatype": "FP64", "shape": [len(found), 1], "data": found}
    return web.json_response({"model_name": name, "model_version": "1", "outputs": [output]})


async def index(request: web.Request) -> web.Response:
    return web.json_response([{"name": name} for name in MODELS])


sizes: list[int] = []


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    sizes.clear()
    server = web.Application()
    server.router.add_post("/v2/models/{model}/infer", infer)
    server.router.add_post("/v2/repository/index", index)
    async with TestServer(server, host="127.0.0.1") as running:
        yield f"127.0.0.1:{running.port}"


def target(server: str, model: str, folder: Path, rows: int = 3, seconds: float = 30.0) -> Target:
    file = folder / "request.json"
    tensor = {"name": "x", "datatype": "FP64", "shape": [rows, 1], "data": [1.0 + row for row in range(rows)]}
    file.write_text(json.dumps({"inputs": [tensor]}))
    return Target(server, InferenceProtocol.V2_REST, model, None, [file], seconds)


def quiet(text: str) -> None:
    """Nobody listens."""


async def test_every_size_is_warmed_up_and_then_timed_up_and_down(tmp_path: Path) -> None:
    told: list[str] = []
    async with serving() as server:
        curve, row_bytes = await measured(target(server, "doubler", tmp_path), 6, 2, told.append)
    assert sizes == [1, 2, 4, 6, 1, 2, 4, 6, 6, 4, 2, 1]
    assert [(point.rows, point.repeats) for point in curve.points] == [(1, 2), (2, 2), (4, 2), (6, 2)]
    assert row_bytes == len("1.0"), "as it is written"
    assert told[0] == "warming up: 1 rows"
    assert told[-1] == "timing: 8 of 8"


@pytest.mark.parametrize(
    ("model", "verdict"),
    [
        ("doubler", Verdict.SAME),
        ("scaler", Verdict.DIFFERENT),
        ("last", Verdict.DIFFERENT),
        ("dice", Verdict.UNSTEADY),
    ],
)
async def test_what_company_does(model: str, verdict: Verdict, tmp_path: Path) -> None:
    async with serving() as server:
        found = await company_finding(target(server, model, tmp_path), 8, quiet)
    assert found.verdict is verdict
    assert found.sizes == (2, 3, 4, 7, 8)
    assert (found.distinct_rows, found.compared) == (3, 3 * (2 + 3 + 4 + 7 + 8))


async def test_the_largest_difference_and_where_it_was(tmp_path: Path) -> None:
    async with serving() as server:
        scaler = await company_finding(target(server, "scaler", tmp_path), 8, quiet)
        last = await company_finding(target(server, "last", tmp_path), 8, quiet)
    assert scaler.outputs[0].absolute == pytest.approx(2 / 3), "the row 1 beside the row 3"
    assert (last.outputs[0].different, last.outputs[0].absolute) == (9, 1.0)
    assert last.outputs[0].place == last.outputs[0].rows - 1


async def test_one_row_is_not_enough_to_tell(tmp_path: Path) -> None:
    async with serving() as server:
        found = await company_finding(target(server, "scaler", tmp_path, rows=1), 8, quiet)
    assert found.verdict is Verdict.ONE_ROW


async def test_a_batch_that_is_too_large_is_the_servers_to_refuse(tmp_path: Path) -> None:
    async with serving() as server:
        with pytest.raises(TbmsError) as caught:
            await measured(target(server, "doubler", tmp_path), 16, 1, quiet)
    said = str(caught.value)
    assert "the server answers 400: batch-size must be <= 8?[2J." in said
    assert said.endswith("That was a batch of 16 rows; --max-rows bounds them.")


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("dobler", "--model: did you mean doubler?"),
        ("xxxxxxxx", "--model: the server has dice, doubler, last, scaler, short."),
    ],
)
async def test_an_unknown_model_gets_a_hint(model: str, hint: str, tmp_path: Path) -> None:
    async with serving() as server:
        with pytest.raises(TbmsError, match="Request for unknown model") as caught:
            await measured(target(server, model, tmp_path), 4, 1, quiet)
    assert str(caught.value).endswith(hint)


async def test_a_reply_that_is_not_one_for_each_row(tmp_path: Path) -> None:
    async with serving() as server:
        with pytest.raises(TbmsError, match=r"cannot share batches: of 2 rows: The reply has 1 rows"):
            await company_finding(target(server, "short", tmp_path), 4, quiet)


@pytest.mark.parametrize("most", [10, 10_000])
async def test_a_reply_is_read_up_to_a_bound(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_client, "_MOST_BYTES", most)
    async with serving() as server:
        asking = measured(target(server, "doubler", tmp_path), 2, 1, quiet)
        if most > 1000:
            await asking
        else:
            with pytest.raises(TbmsError, match="the reply is larger than 10 bytes"):
                await asking


async def test_company_takes_two(tmp_path: Path) -> None:
    with pytest.raises(TbmsError, match=r"--max-rows: company takes 2 rows at least \(found 1\)"):
        await company_finding(target("a:1", "m", tmp_path), 1, quiet)


@pytest.mark.parametrize("server", ["nowhere", "host:", ":80", "host:http", "host:70000", "http://h:1x/", "a/b:1"])
async def test_what_is_no_server_is_refused_by_its_flag(server: str, tmp_path: Path) -> None:
    with pytest.raises(TbmsError, match=r"^--server: host:port was expected"):
        await measured(target(server, "m", tmp_path), 4, 1, quiet)


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[str]:
    """Something that takes connections, answers the first byte with this, and ends them when the client has."""
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = asyncio.Event()
        ended.append(done)
        with suppress(OSError):
            await reader.read(1)
            writer.write(answer)
            if not answer:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        done.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for done in ended:
            await done.wait()


@pytest.mark.parametrize("protocol", [InferenceProtocol.V2_REST, InferenceProtocol.V2_GRPC])
async def test_a_port_on_which_nothing_or_something_else_listens(protocol: InferenceProtocol, tmp_path: Path) -> None:
    asked = target("", "m", tmp_path)
    if protocol.is_grpc:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "contents": {"fp32Contents": [1]}}]}
        asked.files[0].write_text(json.dumps(body))
    says = f"--server names host:port of its {'gRPC' if protocol.is_grpc else 'REST'} API"
    async with listening(b"220 mail.example ESMTP\r\n") as server:
        other = replace(asked, server=server, protocol=protocol)
        with pytest.raises(TbmsError, match=says):
            await measured(other, 4, 1, quiet)
    with pytest.raises(TbmsError, match=says):
        await measured(other, 4, 1, quiet)


async def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    async with listening(b"") as server:
        with pytest.raises(TbmsError, match="no answer in time; --timeout-seconds allows it more"):
            await measured(target(server, "m", tmp_path, seconds=0.05), 4, 1, quiet)
