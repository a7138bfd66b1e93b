"""Calls to another zone, on real Envoys: the node that a header names, nobody's header but ours, and another node where
that one fails.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from integration.stack.sidecar import Sidecar
from mesh.protos import tfs_pb2
from tests.integration.calls import TFS_METADATA, TFS_PREDICT
from tests.integration.conftest import need_envoy
from tests.integration.raw import channel, rest, rest_client, unary
from tests.integration.recorder import Arrival, Recorder, recorder
from tests.integration.routing.far_zone import FarNode, OpenSidecar, far_zone, holding

pytestmark = pytest.mark.envoy

# A model for each place that a call may go to: here, one node of the other zone, both of them, and here and there.
HERE, THERE, EITHER, BOTH_ZONES, SEQUENCES = "here", "there", "either", "both-zones", "sequences"
STEERING = ("x-tbms-node", "x-tbms-hop", "x-tbms-named", "x-tbms-retries")
BODY = b'{"instances": [[1]]}'


@dataclass
class Scene:
    """An edge in zone-1 with one node, and two nodes in zone-2."""

    edge: Sidecar
    near: Recorder
    far: Mapping[str, FarNode]

    def arrivals(self) -> dict[str, list[Arrival]]:
        """What has come to each node since they were last asked; probes left out."""
        found = {}
        for name, seen in {"a": self.near, **{name: node.seen for name, node in self.far.items()}}.items():
            calls = [each for each in seen.arrivals if "tbms-probe" not in each.path]
            if calls:
                found[name] = calls
            seen.arrivals.clear()
        return found

    async def alive(self, name: str, alive: bool) -> None:
        """Once the edge believes that."""
        async with asyncio.timeout(60):
            while {node["id"]: node["alive"] for node in (await self.edge.status())["nodes"]}[name] is not alive:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.36", "1.38", "1.40"])
async def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp(f"zones-{request.param}")
    async with AsyncExitStack() as stack:
        near = await stack.enter_async_context(recorder("a"))
        near.node = holding(near.node, HERE, BOTH_ZONES)
        held = frozenset({EITHER, BOTH_ZONES})
        far = await stack.enter_async_context(far_zone(folder, {"c": held | {THERE, SEQUENCES}, "d": held}))
        # On 1.38 as in a mesh: nobody but the server takes a client's header off. On 1.40 its own calls ask nobody.
        kind = OpenSidecar if request.param == "1.38" else Sidecar
        envoy = {"server_wait_seconds": 30.0, "body_models": [SEQUENCES]}
        if request.param == "1.40":
            envoy["egress"] = f"unix:{folder}/egress.sock"
        sections = {
            "routing": {"zone": "zone-1"},
            "probe": {"interval": 0.2, "retry_interval": 0.05, "timeout": 5.0, "failures": 2},
            "envoy": envoy,
            "models": {SEQUENCES: {"stateful": True}},
        }
        nodes = [near.node, *[each.node for each in far.values()]]
        edge = await stack.enter_async_context(kind(folder, nodes, envoy=request.param, sections=sections))
        yield Scene(edge, near, far)


def _predict(model: str) -> bytes:
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = model
    return bytes(request.SerializeToString())


async def test_headers_alone_lead_there(scene: Scene) -> None:
    """A call without a body goes on by Envoy, by its headers."""
    async with rest_client(scene.edge.http) as client:
        for model, node in ((THERE, "c"), (HERE, "a"), (THERE, "c")):
            assert (await rest(client, f"/v1/models/{model}")).status == 200
            ((name, (arrival,)),) = scene.arrivals().items()
            assert (name, arrival.path) == (node, f"/v1/models/{model}")
            assert [arrival.header(each) for each in STEERING] == [None] * len(STEERING)


async def test_after_its_body_a_call_is_led_there(scene: Scene) -> None:
    """The message names the model: the route is chosen anew when the headers were with the server for long."""
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = THERE
    async with channel(scene.edge.target) as through:
        reply = await unary(through, TFS_METADATA, request.SerializeToString())
    assert reply.code == "OK"
    assert list(scene.arrivals()) == ["c"]


async def test_a_sequence_sits_there(scene: Scene) -> None:
    """On Envoy 1.36 the body is buffered, and the answer to it names the node."""
    inputs = [{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]
    parameters = {"sequence_id": 7, "sequence_start": True, "sequence_end": True}
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    async with rest_client(scene.edge.http) as client:
        reply = await rest(client, f"/v2/models/{SEQUENCES}/infer", body)
    assert (reply.status, reply.body) == (200, body)
    assert list(scene.arrivals()) == ["c"]


async def test_inference_goes_there_and_comes_back(scene: Scene) -> None:
    large = b'{"instances": [' + b"1," * (1 << 20) + b"1]}"
    async with rest_client(scene.edge.http) as client, channel(scene.edge.target) as through:
        for body in (BODY, large):  # held by the server, and too large for that
            reply = await rest(client, f"/v1/models/{THERE}:predict", body)
            assert (reply.status, reply.body, reply.headers.get("tbms-answer")) == (200, body, None)
            assert list(scene.arrivals()) == ["c"]
        for metadata in ((), (("x-tbms-model", THERE),)):
            answer = await unary(through, TFS_PREDICT, _predict(THERE), metadata)
            assert (answer.code, answer.message) == ("OK", _predict(THERE))
            ((name, (arrival,)),) = scene.arrivals().items()
            assert name == "c"
            assert [arrival.header(each) for each in STEERING] == [None] * len(STEERING)


async def test_this_zone_comes_first(scene: Scene) -> None:
    async with rest_client(scene.edge.http) as client:
        for _ in range(20):
            assert (await rest(client, f"/v1/models/{BOTH_ZONES}:predict", BODY)).status == 200
    assert {name: len(calls) for name, calls in scene.arrivals().items()} == {"a": 20}


@pytest.mark.parametrize("own", [["c"], ["c", "d"]], ids="-".join)
async def test_a_clients_own_header_is_nobodys(scene: Scene, own: list[str]) -> None:
    headers = [("x-tbms-node", each) for each in own]
    async with rest_client(scene.edge.http) as client, channel(scene.edge.target) as through:
        for model, node in ((HERE, "a"), (THERE, "c")):
            for path, content in ((f"/v1/models/{model}:predict", BODY), (f"/v1/models/{model}", None)):
                reply = await client.request(
                    "GET" if content is None else "POST", path, content=content, headers=headers
                )
                assert reply.status_code == 200
                assert list(scene.arrivals()) == [node]
            assert (await unary(through, TFS_PREDICT, _predict(model), headers)).code == "OK"
            assert list(scene.arrivals()) == [node]


async def test_candidates_of_a_race_go_there(scene: Scene) -> None:
    headers = {"tloc": "20000;est=10000", "backup": f"{HERE};est=5000"}
    async with rest_client(scene.edge.http) as client:
        reply = await rest(client, f"/v1/models/{THERE}:predict", BODY, headers)
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers["tbms-answer"].startswith(f"{THERE};rank=0")
    assert list(scene.arrivals()) == ["c"]


async def test_another_node_answers_where_one_is_dead(scene: Scene) -> None:
    """A dead node is 503 at the ingress: the call is asked elsewhere where the server has its body, and later calls do
    not go there; when it answers again, they do.
    """
    dead = scene.far["c"]
    await dead.stop()
    async with rest_client(scene.edge.http) as client, channel(scene.edge.target) as through:
        if scene.edge.version == "1.40":
            assert (await rest(client, f"/v1/models/{EITHER}:predict", BODY)).status == 200
        if scene.edge.version == "1.38":
            assert (await unary(through, TFS_PREDICT, _predict(EITHER))).code == "OK"
        if scene.edge.version == "1.36":
            assert (await rest(client, f"/v1/models/{EITHER}:predict", BODY, {"tloc": "20000"})).status == 200
        for number in range(6):
            assert (await rest(client, f"/v1/models/{EITHER}:predict", BODY)).status == 200, number
            assert (await unary(through, TFS_PREDICT, _predict(EITHER))).code == "OK", number
            raced = await rest(client, f"/v1/models/{EITHER}:predict", BODY, {"tloc": "20000"})
            assert raced.status == 200, number
        assert list(scene.arrivals()) == ["d"]
        reply = await rest(client, f"/v1/models/{THERE}:predict", BODY)
        assert reply.status == 503, "nobody else holds it"
        await scene.alive("c", False)
        await dead.start()
        await scene.alive("c", True)
        assert (await rest(client, f"/v1/models/{THERE}:predict", BODY)).status == 200
    assert list(scene.arrivals()) == ["c"]


async def test_calls_that_the_log_tells_of_are_judged_as_well(scene: Scene) -> None:
    """Calls without a body go on by Envoy alone; that they fail is in its log."""
    dead = scene.far["c"]
    await dead.stop()
    async with rest_client(scene.edge.http) as client:
        assert (await rest(client, f"/v1/models/{THERE}")).status == 503
        await scene.alive("c", False)
        await dead.start()
        await scene.alive("c", True)


async def test_without_the_server_a_clients_header_leads_nowhere(scene: Scene) -> None:
    """The last test of this scene: nobody starts the server again."""
    if isinstance(scene.edge, OpenSidecar):
        pytest.skip("a listener that takes no header off on arrival obeys it while the server is away")
    scene.edge.server.kill()
    async with rest_client(scene.edge.http) as client:
        for own in ("c", "nobody"):
            reply = await rest(client, f"/v1/models/{HERE}:classify", BODY, {"x-tbms-node": own})
            assert reply.status == 200
    assert list(scene.arrivals()) == ["a"]
