"""A real edge records its calls before a real node, and its recording is replayed."""

import asyncio
import time
from pathlib import Path

from ext_proc.cli.replay.fleet import RECORDED, SIMULATED, answered, changes_of
from ext_proc.planning.fleet.cache_node import CacheRules
from ext_proc.planning.fleet.change import FleetChange
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.recording.calls import Ending, Way
from ext_proc.recording.files import read_recording
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.stack import Stack
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY
from tests.integration.metrics import metric
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import rest_client

NAMES = ("m0", "m1", "m2")
ROUNDS = 4
# By the map no call goes that says more than its path.
ASKS = {"tbms-key": "user"}
LIMITED = {"tloc": "30000", "backup": "m2;est=10"}


async def test_calls_of_a_real_edge_are_recorded_and_replayed(tmp_path: Path) -> None:
    """Three models take turns in two places, so that no call finds its own; then one of them is raced and hits."""
    need_envoy("1.40")
    shelf, recording = tmp_path / "shelf", tmp_path / "recording"
    for name in NAMES:
        write_onnx(shelf, name)
    sections = {"recording": {"folder": str(recording), "seconds": 0.1}}
    specs = [CachedSpec("node-a", cache={"capacity": {"models": 2}})]
    async with Stack(shelf, specs, sections=sections) as stack:
        await until(lambda: _is_heard(stack))
        async with rest_client(stack.edge.http) as http:

            async def ask(name: str, headers: dict[str, str] | None = None) -> None:
                reply = await http.post(f"/v2/models/{name}/infer", content=BODY, headers=headers)
                assert reply.status_code == 200, reply.text

            for _ in range(ROUNDS):
                began = time.monotonic()
                for name in NAMES:
                    await ask(name, ASKS)
                    await until(lambda name=name: _knows(stack, name))  # type: ignore[misc]
            # Each simulated load takes as long as the model's newest did. Were those the slow ones, the simulated node
            # is behind the real one, by no more than this; what comes before it has loaded is no hit there.
            await asyncio.sleep(ROUNDS * (time.monotonic() - began))
            await ask(NAMES[-1], LIMITED)
            # Known by now, or soon: Envoy tells of such a call when it has ended.
            while not (await stack.edge.status())["calls"].get("known"):
                await ask(NAMES[-1])
                await asyncio.sleep(0.05)
            assert await metric(stack.edge.admin, "tbms_recording_dropped_total") == 0
    calls = [call for portion in read_recording([recording]) for call in portion.calls if call.way is not Way.SAMPLE]
    first = calls[: ROUNDS * len(NAMES)]
    assert [(call.model, call.way, call.node, call.cold) for call in first] == [
        (name, Way.DECIDED, "node-a", True) for _ in range(ROUNDS) for name in NAMES
    ]
    assert all(call.size == len(BODY) for call in first)
    (race,) = [call for call in calls if call.way is Way.RACED]
    assert (race.model, race.ending, race.rank, race.node, race.cold) == ("m2", Ending.ANSWERED, 0, "node-a", False)
    assert (race.limit, race.size) == (30.0, len(BODY))
    assert race.plan is not None
    assert len(race.plan.candidates) == 2
    known = [call for call in calls if call.way is Way.KNOWN]
    assert known
    assert all((call.node, call.ending, call.took > 0) == ("node-a", Ending.ANSWERED, True) for call in known)

    rules = NodeRules(CacheRules(min_age_seconds=0.0))
    changes = changes_of(FleetChange(), ["slots=+1", "nodes=2 replicas=1"], rules, {})
    recorded, simulated, roomier, _ = answered([recording], changes, rules, 0.0).rows
    assert (recorded.name, simulated.name) == (RECORDED, SIMULATED)
    assert recorded.figures.hits == simulated.figures.hits == sum(call.weight for call in calls) - len(first)
    assert simulated.figures.loads == ROUNDS * len(NAMES)
    assert roomier.figures.loads == len(NAMES)
    assert {row.figures.answered_share for row in (recorded, simulated, roomier)} == {1.0}


async def _is_heard(stack: Stack[CachedNode]) -> bool:
    return all(node["residency"]["heard"] for node in (await stack.edge.status())["nodes"])


async def _knows(stack: Stack[CachedNode], name: str) -> bool:
    """Whether the edge has heard that the node holds the model, and that all others have gone for which it had to."""
    models = (await stack.edge.status())["models"]
    states = {model: nodes.get("node-a") for model, nodes in models.items()}
    return states.get(name) == "available" and set(states.values()) == {"available"} and len(states) <= 2
