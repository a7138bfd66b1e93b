"""What an edge takes down of its calls: by a router, a cache map and races of the real kind."""

import json
import math
from collections.abc import Sequence

import pytest

from ext_proc.access_log.entries import EndedCall
from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.broker.race import Race
from ext_proc.broker.schedule import Estimate
from ext_proc.recording import recorder as recorder_module
from ext_proc.recording.calls import Ending, RecordedCall, Way
from ext_proc.recording.recorder import FLEET_SECONDS, HELD_SECONDS, Recorder
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.line import Heard
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

EPOCH = 1_000_000.0
A, B = Node("a", rest="10.0.0.1:1", residency="10.0.0.1:2"), Node("b", rest="10.0.0.2:1", zone="z", weight=2.0)
BERT = ("bert", None, None)


class Edge:
    def __init__(self) -> None:
        self.cache_map, self.load_waits = CacheMap(), LoadWaits()
        self.router = Router(RoutingSettings(replicas=1), self.cache_map, self.load_waits)
        self.router.update([A, B])
        self.heard: dict[str, Heard] = {}
        settings = {"routing": self.router.settings}
        self.recorder = Recorder(self.router, self.load_waits, self.heard.get, settings, EPOCH)

    def tells(
        self, node: Node, models: dict[str, Residency], free: float, seconds: dict[str, float], now: float
    ) -> None:
        self.heard[node.id] = heard = Heard(models, full=True, free_models=free, load_seconds=seconds)
        self.cache_map.snapshot(node.id, models)
        self.load_waits.told(node.id, models, seconds, 7.0, now)
        assert heard is self.heard[node.id]

    def calls(self, now: float) -> Sequence[RecordedCall]:
        return self.recorder.take(now).calls


@pytest.fixture
def edge() -> Edge:
    made = Edge()
    made.tells(A, {"bert": Residency.AVAILABLE, "gpt": Residency.LOADING}, 2.0, {"resnet": 4.0}, 0.0)
    return made


def ended(known: bool, *, model: str = "bert", seconds: float = 0.1, ok: bool = True, stands_for: int = 1) -> EndedCall:
    call = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, model)
    return EndedCall(call, "10.0.0.1:1", known, seconds, seconds if ok else None, stands_for=stands_for)


def test_a_call_that_is_routed_is_taken_down_with_what_its_node_holds(edge: Edge) -> None:
    plan = Plan("bert", (Candidate("bert", "3"),), 80.0, races=False)
    edge.recorder.decided(BERT, A, None, math.inf, 12, 1.0)
    edge.recorder.decided(("resnet", None, None), A, None, math.inf, 0, 2.0)
    edge.recorder.decided(("bert", "3", None), A, plan, 0.08, 0, 3.0)
    portion = edge.recorder.take(4.0)
    assert portion.calls == (
        RecordedCall(EPOCH + 1.0, "bert", Way.DECIDED, node="a", size=12),
        RecordedCall(EPOCH + 2.0, "resnet", Way.DECIDED, node="a", cold=True),
        RecordedCall(EPOCH + 3.0, "bert;version=3", Way.DECIDED, node="a", plan=plan, limit=0.08),
    )
    assert portion.loads == (("resnet", 4.0),)
    assert edge.calls(5.0) == ()


def test_what_is_left_of_a_load_is_not_how_long_one_takes(edge: Edge) -> None:
    edge.recorder.decided(("gpt", None, None), A, None, math.inf, 0, 1.0)
    portion = edge.recorder.take(2.0)
    assert [call.cold for call in portion.calls] == [True]
    assert portion.loads == ()


def test_a_known_call_comes_from_the_log_and_stands_for_others(edge: Edge) -> None:
    edge.recorder.ended([ended(True, stands_for=16), ended(True, ok=False)], 10.0)
    one, other = edge.calls(11.0)
    assert one == RecordedCall(EPOCH + 9.9, "bert", Way.KNOWN, Ending.ANSWERED, "a", took=0.1, weight=16)
    assert other.ending is Ending.FAILED


def test_the_log_of_a_routed_call_is_a_sample_and_no_call(edge: Edge) -> None:
    edge.recorder.ended([ended(False)], 10.0)
    (sample,) = edge.calls(11.0)
    assert (sample.way, sample.weight, sample.cold, sample.node) == (Way.SAMPLE, 0, False, "a")


def test_a_sample_that_has_waited_for_a_load_is_cold(edge: Edge) -> None:
    edge.recorder.decided(("resnet", None, None), A, None, math.inf, 0, 2.0)
    edge.recorder.ended([ended(False, model="resnet", seconds=3.0)], 5.1)
    edge.recorder.ended([ended(False, model="resnet", seconds=0.1)], 60.0)
    assert [call.cold for call in edge.calls(61.0)] == [True, True, False]


def test_a_race_is_one_call_and_a_sample_of_each_candidate_that_ended(edge: Edge) -> None:
    plan = Plan("resnet", (Candidate("resnet"), Candidate("bert", estimate_ms=20.0)), 100.0)
    estimates = [[Estimate(4_000.0, cold=True)], [Estimate(20.0)]]
    race = Race(plan, estimates, TokenBucket(1.0, 1e6), lambda mix, payloads: None, arrival=5.0, margin_ms=2.0)
    race.begin(5.0)
    race.result(1, 0, None, 5.03)
    race.timer(5.098)
    edge.recorder.raced(race, 99, 5.2)
    portion = edge.recorder.take(6.0)
    whole, sample, late = portion.calls
    assert (whole.way, whole.model, whole.ending, whole.rank, whole.cold) == (
        Way.RACED,
        "resnet",
        Ending.ANSWERED,
        1,
        True,
    )
    assert (whole.at, whole.limit, whole.size, whole.plan) == (EPOCH + 5.0, 0.1, 99, plan)
    assert whole.took == pytest.approx(0.098)
    assert (sample.way, sample.model, sample.weight, sample.cold) == (Way.SAMPLE, "bert", 0, False)
    assert sample.took == pytest.approx(0.03)
    # What was still at it when the time was up took at least so long.
    assert (late.way, late.model, late.ending, late.cold) == (Way.SAMPLE, "resnet", Ending.LATE, True)
    assert late.took == pytest.approx(0.098)
    assert portion.loads == (("resnet", 4.0),)


def test_a_race_without_an_answer_is_late_or_its_client_has_left(edge: Edge) -> None:
    for leaves in (False, True):
        plan = Plan("bert", (Candidate("bert"),), 100.0)
        race = Race(
            plan, [[Estimate(20.0)]], TokenBucket(1.0, 1e6), lambda mix, payloads: None, arrival=5.0, margin_ms=2.0
        )
        race.begin(5.0)
        if leaves:
            race.cancelled(5.05)
        else:
            race.timer(5.1)
        edge.recorder.raced(race, 0, 5.1)
    calls = edge.calls(6.0)
    assert [call.ending for call in calls if call.way is Way.RACED] == [Ending.LATE, Ending.GONE]
    assert [call.ending for call in calls if call.way is Way.SAMPLE] == [Ending.LATE]


def test_the_fleet_is_told_at_first_where_it_changes_and_now_and_then(edge: Edge) -> None:
    first = edge.recorder.take(0.0).fleet
    assert first is not None
    a, b = first.nodes
    assert (a.id, a.slots, a.held, a.tells, a.speaks) == ("a", 4, ("bert", "gpt"), True, {"rest"})
    assert (b.id, b.slots, b.tells, b.zone, b.weight) == ("b", None, False, "z", 2.0)
    assert json.loads(first.settings)["routing"]["replicas"] == 1
    assert edge.recorder.take(FLEET_SECONDS).fleet is None
    edge.router.set_alive("b", False)
    changed = edge.recorder.take(2 * FLEET_SECONDS).fleet
    assert changed is not None
    assert [node.id for node in changed.nodes] == ["a"]
    assert edge.recorder.take(2 * FLEET_SECONDS + HELD_SECONDS).fleet == changed


def test_a_node_is_looked_at_again_once_it_is_heard_if_calls_come() -> None:
    edge = Edge()
    first = edge.recorder.take(0.0).fleet
    assert first is not None
    assert [(node.id, node.tells) for node in first.nodes] == [("a", False), ("b", False)]
    edge.tells(A, {"bert": Residency.AVAILABLE}, 2.0, {}, 0.5)
    assert edge.recorder.take(1.0).fleet is None
    edge.recorder.decided(BERT, A, None, math.inf, 0, 1.5)
    heard = edge.recorder.take(2.0).fleet
    assert heard is not None
    assert [(node.id, node.tells, node.slots) for node in heard.nodes] == [("a", True, 3), ("b", False, None)]


def test_names_that_no_model_may_have_and_what_is_too_much_are_dropped(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_CALLS", 2)
    edge.recorder.decided(("a/b", None, None), A, None, math.inf, 0, 1.0)
    for _ in range(3):
        edge.recorder.decided(BERT, A, None, math.inf, 0, 1.0)
    assert (edge.recorder.recorded, edge.recorder.dropped) == (2, 2)
    assert len(edge.calls(2.0)) == 2
