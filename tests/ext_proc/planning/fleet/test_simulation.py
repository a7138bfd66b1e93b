"""A simulated fleet on calls made by hand: what is a hit, who waits, who is answered."""

import pytest

from ext_proc.broker.plan import Candidate, Plan
from ext_proc.errors import TbmsError
from ext_proc.planning.fleet.cache_node import CacheRules
from ext_proc.planning.fleet.change import Amount, FleetChange
from ext_proc.planning.fleet.figures import Figures
from ext_proc.planning.fleet.profile import in_order, profile_of
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.planning.fleet.simulation import simulate
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way

BEGIN = 1_000.0
LOAD = 1.0
TOOK = 0.25
OLD_ENOUGH = NodeRules(CacheRules(min_age_seconds=0.0))
AS_IT_IS = FleetChange()


def aged(min_age: float, room: float) -> NodeRules:
    return NodeRules(CacheRules(min_age_seconds=min_age, room_seconds=room))


def decided(at: float, model: str) -> RecordedCall:
    return RecordedCall(BEGIN + at, model, Way.DECIDED, node="node-0")


def raced(at: float, *models: str, limit: float = 0.5) -> RecordedCall:
    candidates = tuple([Candidate(model, estimate_ms=1000 * TOOK) for model in models])
    plan = Plan(models[0], candidates, 1000 * limit)
    return RecordedCall(BEGIN + at, models[0], Way.RACED, Ending.LATE, plan=plan, limit=limit, took=limit)


def sample(model: str, took: float = TOOK, ending: Ending = Ending.ANSWERED) -> RecordedCall:
    return RecordedCall(BEGIN, model, Way.SAMPLE, ending, "node-0", took=took, weight=0)


def reached(
    *calls: RecordedCall,
    slots: int | None = 1,
    nodes: int = 1,
    held: tuple[str, ...] = (),
    change: FleetChange = AS_IT_IS,
    rules: NodeRules = OLD_ENOUGH,
    tells: bool = True,
    warm_up: float = 0.0,
) -> Figures:
    fleet = RecordedFleet(
        tuple([RecordedNode(f"node-{n}", slots=slots, held=held, tells=tells) for n in range(nodes)]),
        '{"routing": {"replicas": 1}}',
    )
    models = {call.model for call in calls} | {"backup"}
    samples = tuple([sample(model) for model in models])
    portions = [Portion((*samples, *calls), fleet, tuple([(model, LOAD) for model in models]))]
    profile = profile_of(portions, warm_up)
    return simulate(profile, in_order(portions), change, rules, warm_up)


ALTERNATING = [decided(10.0 * number, "ab"[number % 2]) for number in range(10)]


def test_two_models_in_one_place_never_hit() -> None:
    figures = reached(*ALTERNATING)
    assert (figures.hits, figures.loads, figures.answered) == (0, 10, 10)
    assert figures.cold_seconds == pytest.approx(10 * LOAD)
    assert figures.busy_seconds == pytest.approx(10 * TOOK)


def test_one_more_slot_has_them_both() -> None:
    figures = reached(*ALTERNATING, change=FleetChange(slots=Amount(1, True)))
    assert (figures.slots, figures.hits, figures.loads) == (2, 8, 2)


def test_what_nodes_held_at_the_beginning_is_there() -> None:
    assert reached(*ALTERNATING, slots=2, held=("a", "b")).hits == 10
    assert reached(*ALTERNATING, slots=2, held=("a", "b"), change=FleetChange(slots=Amount(1))).hits == 1


def test_calls_of_the_warm_up_fill_caches_and_do_not_count() -> None:
    figures = reached(*ALTERNATING, slots=2, warm_up=15.0)
    assert (figures.calls, figures.hits, figures.loads) == (8, 8, 0)


def test_calls_that_come_during_a_load_wait_for_what_is_left_of_it() -> None:
    figures = reached(decided(0.0, "a"), decided(0.5, "a"), decided(2.0, "a"))
    assert (figures.hits, figures.loads) == (1, 1)
    assert figures.cold_seconds == pytest.approx(LOAD + 0.5)


def test_a_model_in_flight_is_not_evicted() -> None:
    # The call for b comes while a is in use, waits for its end and then for its own load.
    figures = reached(decided(0.0, "a"), decided(LOAD + TOOK / 2, "b"))
    assert (figures.loads, figures.answered) == (2, 2)
    assert figures.cold_seconds == pytest.approx(LOAD + TOOK / 2 + LOAD)


def test_where_a_young_model_has_the_place_a_call_is_refused_after_a_while() -> None:
    calls = [decided(0.0, "a"), decided(2.0, "b")]
    young = reached(*calls, rules=aged(60.0, 2.0))
    assert (young.answered, young.loads) == (1, 1)
    patient = reached(*calls, rules=aged(5.0, 60.0))
    assert (patient.answered, patient.loads) == (2, 2)
    assert patient.cold_seconds == pytest.approx(LOAD + (LOAD + 5.0 - 2.0) + LOAD)


def test_another_node_is_asked_where_the_first_has_no_room() -> None:
    calls = [decided(0.0, model) for model in "abcdefgh"] + [decided(2.0, model) for model in "ijklmnop"]
    figures = reached(*calls, nodes=2, slots=4, rules=aged(60.0, 1.0))
    assert (figures.loads, figures.answered) == (8, 8)


def test_pinned_models_stay() -> None:
    calls = [decided(0.0, "a"), decided(10.0, "b"), decided(20.0, "a")]
    assert reached(*calls, rules=NodeRules(CacheRules(0.0, frozenset("a"), room_seconds=1.0))).hits == 1


def test_a_cold_call_is_answered_by_its_backup_or_not_at_all() -> None:
    calls = [decided(0.0, "backup"), *[raced(10.0 * number, "ab"[number % 2], "backup") for number in range(1, 9)]]
    with_backups = reached(*calls, slots=2)
    assert with_backups.answered == 9
    assert with_backups.hits < 5
    without = reached(*calls, slots=2, change=FleetChange(backups=False))
    # The backup's place is free for them then.
    assert (without.hits, without.answered) == (6, 7)


def test_another_limit_is_time_enough_for_a_load() -> None:
    calls = [raced(10.0 * number, "ab"[number % 2]) for number in range(6)]
    assert reached(*calls).answered == 0
    assert reached(*calls, change=FleetChange(limit_ms=2_000.0)).answered == 6


def test_a_client_that_leaves_counts_in_no_share() -> None:
    gone = raced(5.0, "b")._replace(ending=Ending.GONE, took=0.1)
    figures = reached(raced(0.0, "a"), gone, held=("a",))
    assert (figures.calls, figures.gone, figures.answered_share) == (2, 1, 1.0)


def test_a_known_call_stands_for_many() -> None:
    call = RecordedCall(BEGIN, "a", Way.KNOWN, Ending.ANSWERED, "node-0", took=TOOK, weight=16)
    figures = reached(call, held=("a",))
    assert (figures.calls, figures.hits, figures.answered) == (16, 16, 16)


def test_failures_of_a_model_are_those_that_were_recorded() -> None:
    fleet = RecordedFleet((RecordedNode("node-0", slots=1, held=("a",)),))
    samples = [sample("a"), sample("a", ending=Ending.FAILED)]
    calls = [decided(float(number), "a") for number in range(10)]
    portions = [Portion((*samples, *calls), fleet)]
    profile = profile_of(portions)
    assert profile.recorded.answered_share == 0.5
    assert simulate(profile, in_order(portions), AS_IT_IS, OLD_ENOUGH).answered_share == 0.5


def test_nodes_that_tell_nothing_are_taken_to_hold_everything() -> None:
    figures = reached(*ALTERNATING, slots=None, tells=False)
    assert (figures.hit_share, figures.answered_share, figures.loads, figures.slots) == (None, 1.0, 0, None)


def test_fewer_nodes_have_fewer_places() -> None:
    calls = [decided(float(number), "abcdef"[number % 6]) for number in range(60)]
    assert reached(*calls, nodes=4, slots=6, held=()).hits == 54
    less = reached(*calls, nodes=4, slots=2, change=FleetChange(nodes=Amount(2)))
    assert (less.nodes, less.slots) == (2, 4)
    assert less.hits < 54


def test_a_recording_without_nodes_and_settings_that_cannot_be_are_told() -> None:
    call = decided(0.0, "a")
    with pytest.raises(TbmsError, match="names no nodes"):
        simulate(profile_of([Portion((call,))]), [call], AS_IT_IS, OLD_ENOUGH)
    assert reached(call, change=FleetChange(replicas=40)).answered == 1
    with pytest.raises(TbmsError, match="max_replicas is 1, less than replicas"):
        reached(call, change=FleetChange(replicas=3, max_replicas=1))
