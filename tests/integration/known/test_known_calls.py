"""Calls that the map knows never leave Envoy, all others ask the server as ever, and a node cannot tell them apart."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from integration.stack.sidecar import Sidecar
from tests.integration.calls import TFS_METADATA, TFS_PREDICT, V2_INFER
from tests.integration.conftest import need_envoy
from tests.integration.known.asked import asked, until_known, until_map
from tests.integration.raw import channel, rest, rest_client, unary
from tests.integration.recorder import Arrival, Recorder, recorder

pytestmark = pytest.mark.envoy

ODD = ('a"b', "a'b", "a.b", "a%b", "ä", "x" * 255)
ONE, BOTH, RACED = "one", "both", "raced"
PREDICT = f"/v1/models/{ONE}:predict"
FORMS = (
    f"/v1/models/{ONE}:classify",
    f"/v1/models/{ONE}:regress",
    f"/v2/models/{ONE}/infer",
    *[f"/v1/models/{httpx.URL('http://x/' + name).raw_path.decode()[1:]}:predict" for name in ("ä", "a'b")],
    "/v1/models/a%22b:predict",
    "/v1/models/a.b:predict",
    "/v1/models/a%25b:predict",
    f"/v2/models/{'x' * 255}/infer",
)
ASKED = (
    (f"/v1/models/{ONE}/versions/1:predict", {}),
    (f"/v1/models/{ONE}/labels/stable:predict", {}),
    (f"{PREDICT}?x=1", {}),
    (f"/v1/models/{ONE}:Predict", {}),
    ("/v1/models/%6fne:predict", {}),
    (PREDICT, {"tloc": "5000"}),
    (PREDICT, {"backup": BOTH}),
    (PREDICT, {"primary": f"({ONE} {BOTH});mix=max"}),
    (PREDICT, {"tbms-key": "user"}),
    (PREDICT, {"tbms-session": "s1"}),
    (PREDICT, {"grpc-timeout": "soon"}),
    (f"/v1/models/{RACED}:predict", {}),
)
"""Calls that say more than a name, or of a model that needs decisions."""


@dataclass
class Scene:
    """An edge, two nodes that declare models, and what reached them."""

    edge: Sidecar
    nodes: tuple[Recorder, Recorder]

    def arrival(self) -> Arrival:
        """The call that came last."""
        (found,) = [node.arrivals[-1] for node in self.nodes if node.arrivals]
        return found

    def forget(self) -> None:
        for node in self.nodes:
            node.arrivals.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.36", "1.38", "1.40"])
async def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """`one` and the odd names are held by the first node, `both` by both, `raced` needs decisions."""
    need_envoy(request.param)
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(recorder(name)) for name in ("a", "b")]
        first.node = replace(first.node, models=frozenset({ONE, BOTH, RACED, *ODD}))
        second.node = replace(second.node, models=frozenset({BOTH}))
        folder = tmp_path_factory.mktemp(f"known-{request.param}")
        sections = {
            "models": {RACED: {"limit_ms": 5000}},
            "envoy": {"server_wait_seconds": 30.0},
            "probe": {"interval": 0.1, "retry_interval": 0.05, "timeout": 0.5, "failures": 2},
        }
        edge = await stack.enter_async_context(
            Sidecar(folder, [first.node, second.node], envoy=request.param, sections=sections)
        )
        async with rest_client(edge.http) as client:
            for path in FORMS:  # so that one map has them all
                await client.post("/", content=b"{}", extensions={"target": path.encode()})
        for path in (PREDICT, f"/v1/models/{BOTH}:predict"):
            await until_known(edge, path)
        yield Scene(edge, (first, second))


async def test_a_known_call_reaches_its_node_and_the_server_hears_nothing(scene: Scene) -> None:
    before = await asked(scene.edge)
    async with rest_client(scene.edge.http) as client:
        for _ in range(20):
            reply = await rest(client, PREDICT, b'{"instances": []}')
            assert (reply.status, reply.body) == (200, b'{"instances": []}')
            assert reply.upstream == scene.nodes[0].node.rest
    assert await asked(scene.edge) == before


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_every_form_and_name_is_known_once_it_was_called(scene: Scene, path: str, http2: bool) -> None:
    await until_known(scene.edge, path)
    before = await asked(scene.edge)
    async with rest_client(scene.edge.http, http2=http2) as client:
        reply = await client.post("/", content=b"{}", extensions={"target": path.encode()})
    assert (reply.status_code, reply.headers["x-tbms-upstream"]) == (200, scene.nodes[0].node.rest)
    assert await asked(scene.edge) == before


@pytest.mark.parametrize("method", [TFS_PREDICT, V2_INFER])
async def test_a_grpc_call_whose_header_names_its_model(scene: Scene, method: str) -> None:
    async with channel(scene.edge.target) as through:
        async with asyncio.timeout(30):
            while True:
                before = await asked(scene.edge)
                reply = await unary(through, method, b"x", [("x-tbms-model", ONE)])
                assert (reply.code, reply.message) == ("OK", b"x")
                assert reply.upstream == scene.nodes[0].node.grpc
                if await asked(scene.edge) == before:
                    break
                await asyncio.sleep(0.05)
        for metadata, timeout in (([("x-tbms-model", f"{ONE}/versions/1")], 60), ([("x-tbms-model", ONE)], None)):
            before = await asked(scene.edge)
            reply = await unary(through, method, b"x", metadata, timeout=timeout)  # type: ignore[arg-type]
            assert reply.code == "OK"
            assert (await asked(scene.edge) == before) is (timeout is None)
        before = await asked(scene.edge)
        assert (await unary(through, TFS_METADATA, b"x", [("x-tbms-model", ONE)])).code == "OK"
        assert await asked(scene.edge) == before + 1


async def test_what_says_more_than_a_name_asks_the_server(scene: Scene) -> None:
    async with rest_client(scene.edge.http) as client:
        for _ in range(3):
            for path, headers in ASKED:
                before = await asked(scene.edge)
                await client.post("/", content=b"{}", headers=headers, extensions={"target": path.encode()})
                assert await asked(scene.edge) > before, (path, headers)
            await asyncio.sleep(0.15)  # the map is written meanwhile


async def test_other_methods_ask_the_server(scene: Scene) -> None:
    before = await asked(scene.edge)
    async with rest_client(scene.edge.http) as client:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            await client.request(method, PREDICT)
    assert await asked(scene.edge) == before + 4


async def test_a_node_cannot_tell_a_known_call_from_one_of_the_servers(scene: Scene) -> None:
    """The same headers, in the same order; and none that a client forged in order to steer."""
    forged = {
        "x-tbms-node": "b",
        "x-tbms-hop": "guess",
        "x-tbms-residency": "?1",
        "x-tbms-call": "share",
        "x-tbms-session": "s",
        "x-envoy-max-retries": "9",
        "x-envoy-upstream-rq-timeout-ms": "1",
    }
    kept = {"x-request-id": "mine", "X-Odd_Name": "v", "x-tbms-model": "other", "content-type": "application/json"}
    seen = []
    async with rest_client(scene.edge.http) as client:
        # The server is asked because of the query, and for nothing else.
        for path in (PREDICT, f"{PREDICT}?q"):
            scene.forget()
            before = await asked(scene.edge)
            await client.post(path, content=b"{}", headers={**kept, **forged})
            assert (await asked(scene.edge) > before) is ("?" in path)
            seen.append(scene.arrival())
    known, decided = seen
    assert known.headers == decided.headers
    assert [name for name in forged if known.header(name) is not None] == []
    assert {name: known.header(name.lower()) for name in kept} == kept


async def test_grpc_headers_are_the_same_too(scene: Scene) -> None:
    seen = []
    async with channel(scene.edge.target) as through:
        for metadata in ([], [("tbms-key", "k")]):
            scene.forget()
            before = await asked(scene.edge)
            await unary(through, TFS_PREDICT, b"x", [("x-tbms-model", ONE), ("x-request-id", "r"), *metadata])
            assert (await asked(scene.edge) > before) is bool(metadata)
            seen.append({name: value for name, value in scene.arrival().headers if name != "grpc-timeout"})
    known, decided = seen
    assert decided.pop("tbms-key") == "k"
    assert known == decided


async def test_holders_share_the_calls_and_an_id_of_a_client_moves_its_own_only(scene: Scene) -> None:
    async with rest_client(scene.edge.http) as client:

        async def where(**headers: str) -> str | None:
            return (await rest(client, f"/v1/models/{BOTH}:predict", b"{}", headers)).upstream

        before = await asked(scene.edge)
        spread = Counter([await where() for _ in range(200)])
        same = {await where(**{"x-request-id": "always the same"}) for _ in range(20)}
        assert await asked(scene.edge) == before
    assert set(spread) == {node.node.rest for node in scene.nodes}
    assert min(spread.values()) > 60
    assert len(same) == 1


async def test_what_is_said_of_the_map(scene: Scene) -> None:
    told = await until_map(scene.edge, lambda known: bool(known["taken"]))
    assert told["version"] == told["envoys_version"]
    assert told["bytes"] == Path(told["file"]).stat().st_size
    assert told["models"] >= 2
    assert (told["refused"], told["cause"]) == (0, None)
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"{scene.edge.admin}/metrics")).text
    assert "tbms_known_map_taken 1.0" in metrics
    assert f"tbms_known_map_bytes {float(told['bytes'])}" in metrics


async def test_a_reload_takes_models_out_that_need_decisions_now(scene: Scene) -> None:
    sections = scene.edge._sections
    before = dict(sections["models"])
    try:
        # Not a limit: before Envoy 1.40 a filter has to know by headers which bodies the server needs.
        sections["models"][ONE] = {"alias": BOTH}
        scene.edge.write_config()
        scene.edge.server.signal(signal.SIGHUP)
        scene.forget()
        async with rest_client(scene.edge.http) as client, asyncio.timeout(30):
            while (await rest(client, PREDICT, b"{}")).status == 200 and not any(
                arrival.path == f"/v1/models/{BOTH}:predict" for node in scene.nodes for arrival in node.arrivals
            ):
                await asyncio.sleep(0.02)
    finally:
        sections["models"] = before
        scene.edge.write_config()
        scene.edge.server.signal(signal.SIGHUP)
        await until_known(scene.edge, PREDICT)


async def test_a_refused_map_is_an_error_and_the_last_good_one_stays(scene: Scene) -> None:
    """Somebody else writes into the server's file, which Envoy cannot take."""
    told = await until_map(scene.edge, lambda known: bool(known["taken"]))
    file = Path(told["file"])
    good = file.read_bytes()
    fresh = file.with_suffix(".new")
    fresh.write_bytes(good.replace(b"[HMSmun]", b"[HMSmun("))
    os.replace(fresh, file)
    await until_map(scene.edge, lambda known: known["refused"] == told["refused"] + 1)
    assert "Envoy has refused the map of known calls" in scene.edge.server.tail(200)
    before = await asked(scene.edge)
    async with rest_client(scene.edge.http) as client:
        assert (await rest(client, PREDICT, b"{}")).status == 200
    assert await asked(scene.edge) == before
    fresh.write_bytes(good)
    os.replace(fresh, file)


async def test_with_the_server_dead_known_calls_go_on_untouched_and_come_back_when_it_does(scene: Scene) -> None:
    async with rest_client(scene.edge.http) as client:
        scene.edge.server.kill()
        try:
            for _ in range(50):
                reply = await rest(client, PREDICT, b"{}")
                assert (reply.status, reply.upstream) == (200, scene.nodes[0].node.rest)
        finally:
            await scene.edge.start_server()
    await until_known(scene.edge, PREDICT)


@pytest.mark.parametrize("version", ["1.36", "1.38", "1.40"])
async def test_envoy_starts_first(version: str, tmp_path: Path) -> None:
    """With the empty map that lies there it takes its listener, and takes up what the server writes later."""
    need_envoy(version)
    async with recorder("a") as node:
        node.node = replace(node.node, models=frozenset({ONE}))
        edge = Sidecar(tmp_path, [node.node], envoy=version)
        try:
            await edge.start_envoy_first()
            async with rest_client(edge.http) as client:
                assert (await rest(client, PREDICT, b"{}")).status == 200
            await edge.start_server()
            await until_known(edge, PREDICT)
        finally:
            await edge.stop()


async def test_a_node_that_dies_is_taken_out_and_costs_no_call(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(recorder(name)) for name in ("a", "b")]
        dying = await stack.enter_async_context(AsyncExitStack())
        third = await dying.enter_async_context(recorder("c"))
        nodes = [replace(each.node, models=frozenset({BOTH})) for each in (first, second, third)]
        sections = {"routing": {"replicas": 3}, "probe": {"interval": 0.5, "retry_interval": 0.2, "failures": 3}}
        edge = await stack.enter_async_context(Sidecar(tmp_path, nodes, sections=sections))
        path = f"/v1/models/{BOTH}:predict"
        await until_known(edge, path)
        async with rest_client(edge.http) as client:
            before, answered = (await edge.status())["known"]["version"], set()
            await dying.aclose()
            while (await edge.status())["known"]["version"] == before:
                reply = await rest(client, path, b"{}")
                assert reply.status == 200, "override_host ignores health; the retry goes to the next of the list"
                answered.add(reply.upstream)
            told = await until_map(edge, lambda known: bool(known["taken"]))
            asked_before = await asked(edge)
            for _ in range(30):
                answered.add((await rest(client, path, b"{}")).upstream)
            assert await asked(edge) == asked_before
        assert answered == {first.node.rest, second.node.rest}
        assert (third.node.rest or "").encode() not in Path(told["file"]).read_bytes()
