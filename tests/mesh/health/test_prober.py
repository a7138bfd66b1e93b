import asyncio
from itertools import pairwise

from mesh.health.prober import Prober
from mesh.health.state import ProbeSettings
from mesh.node import Node
from tests.mesh.background import during
from tests.mesh.routing.population import node, nodes

FAR = Node("far", zone="west", reached_by="header", speaks=frozenset({"rest"}))
SETTINGS = ProbeSettings(interval=2.0, retry_interval=0.25, failures=3, successes=2, jitter=0.0)


class Fleet:
    """Nodes that can be broken and mended; notes every probe and every verdict with its time."""

    def __init__(self, settings: ProbeSettings = SETTINGS, seed: int = 1) -> None:
        self.broken: set[str] = set()
        self.probes: list[tuple[float, str]] = []
        self.verdicts: list[tuple[float, str, bool]] = []
        self.prober = Prober(settings, self.probe, self.verdict, seed)

    async def probe(self, asked: Node) -> str | None:
        self.probes.append((asyncio.get_running_loop().time(), asked.id))
        await asyncio.sleep(0.01)
        return "refused" if asked.id in self.broken else None

    def verdict(self, node_id: str, alive: bool) -> None:
        self.verdicts.append((asyncio.get_running_loop().time(), node_id, alive))

    def times(self, node_id: str) -> list[float]:
        return [time for time, asked in self.probes if asked == node_id]


def test_healthy_nodes_are_probed_at_the_interval_and_nothing_is_said() -> None:
    fleet = Fleet()
    fleet.prober.update(nodes(3))
    during(fleet.prober, lambda: asyncio.sleep(20.0))
    for number in range(3):
        times = fleet.times(f"node-{number}")
        assert times[0] < 0.25
        assert {round(later - earlier, 6) for earlier, later in pairwise(times)} == {2.01}
    assert len({fleet.times(f"node-{number}")[0] for number in range(3)}) == 3  # not all at once
    assert fleet.verdicts == []


def test_a_broken_node_is_proven_dead_quickly_and_alive_again_when_mended() -> None:
    fleet = Fleet()
    fleet.prober.update(nodes(2))

    async def story() -> None:
        await asyncio.sleep(10.0)
        fleet.broken.add("node-1")
        await asyncio.sleep(10.0)
        assert fleet.prober.cause("node-1") == "refused"
        assert fleet.prober.cause("node-0") is None
        fleet.broken.clear()
        await asyncio.sleep(10.0)
        assert fleet.prober.cause("node-1") is None

    during(fleet.prober, story)
    (died, dead_id, dead), (returned, back_id, back) = fleet.verdicts
    assert (dead_id, dead, back_id, back) == ("node-1", False, "node-1", True)
    assert 10.0 + 2 * 0.25 < died <= 10.0 + 2.01 + 3 * 0.26  # the next probe, and two more in doubt
    assert 20.0 + 0.25 < returned <= 20.0 + 2.01 + 2 * 0.26


def test_nodes_may_come_go_and_move_while_it_runs() -> None:
    fleet = Fleet()

    async def story() -> None:
        fleet.broken = {"node-0", "node-1"}
        fleet.prober.update(nodes(2))
        await asyncio.sleep(5.0)
        fleet.prober.update([node(1, grpc="10.9.9.9:8500", zone="east"), node(2)])
        gone = len(fleet.times("node-0"))
        await asyncio.sleep(5.0)
        assert len(fleet.times("node-0")) == gone
        assert fleet.prober.cause("node-0") is None

    during(fleet.prober, story)
    story_of_1 = [(time, alive) for time, node_id, alive in fleet.verdicts if node_id == "node-1"]
    assert [alive for _, alive in story_of_1] == [False, True, False]  # the new address had its own chance
    assert story_of_1[1][0] == 5.0
    assert fleet.times("node-2")


def test_a_node_that_only_changes_its_weight_keeps_what_is_known_of_it() -> None:
    fleet = Fleet()

    async def story() -> None:
        fleet.broken = {"node-0"}
        fleet.prober.update(nodes(1))
        await asyncio.sleep(5.0)
        fleet.prober.update([node(0, weight=3.0)])
        await asyncio.sleep(5.0)

    during(fleet.prober, story)
    assert [alive for _, _, alive in fleet.verdicts] == [False]


def test_switched_off_it_asks_nobody() -> None:
    fleet = Fleet(ProbeSettings(enabled=False))
    fleet.prober.update(nodes(3))
    during(fleet.prober, lambda: asyncio.sleep(20.0))
    assert fleet.probes == []


def test_the_same_seed_probes_at_the_same_times_and_jitter_moves_them() -> None:
    def times(seed: int) -> list[float]:
        fleet = Fleet(ProbeSettings(jitter=0.5), seed)
        fleet.prober.update(nodes(1))
        during(fleet.prober, lambda: asyncio.sleep(60.0))
        return fleet.times("node-0")

    assert times(1) == times(1)
    assert times(1) != times(2)
    gaps = [later - earlier - 0.01 for earlier, later in pairwise(times(1))]
    assert all(1.0 - 1e-9 <= gap <= 3.0 + 1e-9 for gap in gaps)
    assert max(gaps) - min(gaps) > 0.5


def test_a_far_node_is_probed_only_in_doubt_and_gets_no_call_before_it_went_well() -> None:
    fleet = Fleet()
    fleet.prober.update([FAR])

    async def story() -> None:
        await asyncio.sleep(100.0)
        fleet.prober.observed("far", None)
        assert fleet.probes == [], "nobody asks while calls go well"
        fleet.prober.observed("far", "503")
        assert fleet.verdicts == [(100.0, "far", False)]
        assert fleet.prober.cause("far") == "503"
        await asyncio.sleep(1.0)
        assert fleet.verdicts[1:] == [(100.01, "far", True)], "one bad answer of a node that is there"
        assert fleet.prober.cause("far") is None
        await asyncio.sleep(100.0)
        assert len(fleet.probes) == 1

    during(fleet.prober, story)


def test_a_dead_far_node_is_alive_again_once_probes_go_well() -> None:
    fleet = Fleet()
    fleet.prober.update([FAR])
    fleet.broken.add("far")

    async def story() -> None:
        await asyncio.sleep(10.0)
        fleet.prober.observed("far", "reset")
        await asyncio.sleep(10.0)
        assert fleet.verdicts == [(10.0, "far", False)], "said once"
        fleet.prober.observed("far", None)  # of a call that was sent before
        assert len(fleet.verdicts) == 1
        fleet.broken.clear()
        await asyncio.sleep(10.0)

    during(fleet.prober, story)
    assert [alive for _, _, alive in fleet.verdicts] == [False, True]
    assert 20.0 + 0.25 < fleet.verdicts[1][0] <= 20.0 + 2.01 + 2 * 0.26


def test_a_far_node_that_leaves_in_doubt_is_forgotten_and_what_calls_to_others_come_to_is_nothing() -> None:
    fleet = Fleet()
    fleet.prober.update([FAR, node(1)])

    async def story() -> None:
        fleet.prober.observed("far", "503")
        fleet.prober.observed("node-1", "503")
        fleet.prober.observed("unknown", "503")
        fleet.prober.update([])

    during(fleet.prober, story)
    assert [(node_id, alive) for _, node_id, alive in fleet.verdicts] == [("far", False), ("far", True)]
