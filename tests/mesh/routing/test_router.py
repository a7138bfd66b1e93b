import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import MeshError
from mesh.node import Node
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.load import InFlight
from mesh.routing.placement import RESIDENT, ExpectedWait, NoNode, Placement
from mesh.routing.router import Router
from tests.mesh.routing import population as fresh
from tests.mesh.routing.population import models, node, nodes

AVAILABLE, LOADING, DRAINING, FAILED = Residency.AVAILABLE, Residency.LOADING, Residency.DRAINING, Residency.FAILED
STATES = [Residency.ABSENT, AVAILABLE, LOADING, DRAINING, FAILED]


class Caller:
    """Picks with a clock that leaves time enough for every estimate to fade between two calls."""

    def __init__(self, population: list[Node], **settings: object) -> None:
        self.router = fresh.router(**settings)
        self.router.update(population)
        self.now = 0.0
        self.leases: dict[str, list[InFlight]] = {}

    def pick(self, model: str) -> list[str]:
        self.now += 1_000.0
        return [chosen.id for chosen in self.router.pick(model, self.now, "grpc").nodes]

    def ranked(self, model: str) -> list[str]:
        candidates = sorted(self.router.placements(model), key=lambda candidate: candidate.rank)
        return [candidate.node.id for candidate in candidates]

    def start(self, node_id: str, calls: int) -> None:
        placement = Placement(tuple(each for each in self.router.nodes if each.id == node_id))
        self.leases.setdefault(node_id, []).extend(self.router.lease(placement) for _ in range(calls))

    def end(self, node_id: str) -> None:
        self.leases[node_id].pop().release()


def test_the_replicas_come_first_then_further_nodes_for_retries() -> None:
    caller = Caller(nodes(10), replicas=2, retries=2)
    for model in models(100):
        assert caller.pick(model) == caller.ranked(model)[:4]
        caller.router.set_spread(model, 5)
        assert caller.pick(model) == caller.ranked(model)[:7]
        caller.router.set_spread(model, 0)
        assert caller.pick(model) == caller.ranked(model)[:3]


def test_a_small_population_gives_what_it_has() -> None:
    caller = Caller(nodes(1))
    assert caller.pick("digits") == ["node-0"]


def test_endpoints_are_what_envoy_reads() -> None:
    population = [node(1), node(2, rest=None), node(3, grpc=None, rest="[fd00::3]:8501")]
    made = fresh.router()
    made.update(population)
    grpc, rest = made.pick("digits", 0.0, "grpc"), made.pick("digits", 0.0, "rest")
    assert sorted(grpc.endpoints("grpc")) == ["10.0.0.1:8500", "10.0.0.2:8500"]
    assert sorted(rest.endpoints("rest")) == ["10.0.0.1:8501", "[fd00::3]:8501"]


def test_two_routers_give_the_same_answer_whatever_the_order_of_their_nodes() -> None:
    one, other = Caller(nodes(20)), Caller(nodes(20)[::-1])
    assert [one.pick(model) for model in models(200)] == [other.pick(model) for model in models(200)]


def test_the_same_call_goes_to_the_same_node_at_low_load() -> None:
    made = fresh.router()
    made.update(nodes(10))
    chosen = {made.pick("digits", 0.05 * number, "grpc").nodes[0].id for number in range(500)}  # 20 calls a second
    assert len(chosen) == 1


# What a node holds


def test_the_replica_that_holds_the_model_is_preferred_in_the_order_of_states() -> None:
    caller = Caller(nodes(5), replicas=5)
    home = caller.ranked("digits")
    for node_id, state in zip(home, (FAILED, DRAINING, Residency.ABSENT, LOADING, AVAILABLE), strict=True):
        caller.router.cache_map.snapshot(node_id, {"digits": state})
    assert caller.pick("digits") == home[::-1]


def test_a_holder_outside_the_replicas_is_preferred_to_a_replica_without_the_model() -> None:
    caller = Caller(nodes(10), replicas=2, retries=1)
    home = caller.ranked("digits")
    caller.router.cache_map.change(home[7], "digits", AVAILABLE)
    assert caller.pick("digits") == [home[7], home[0], home[1]]
    caller.router.cache_map.change(home[7], "digits", Residency.ABSENT)
    assert caller.pick("digits") == home[:3]
    caller.router.cache_map.change(home[7], "digits", AVAILABLE)
    caller.router.cache_map.forget(home[7])
    assert caller.pick("digits") == home[:3]


def test_declared_models_go_to_the_nodes_that_declare_them_and_nowhere_else() -> None:
    population = [node(number, models=frozenset({f"m{number}", "shared"})) for number in range(6)]
    caller = Caller(population, replicas=2, retries=2)
    for number in range(6):
        assert caller.pick(f"m{number}") == [f"node-{number}"]
    assert caller.pick("shared") == caller.ranked("shared")[:4]
    assert caller.pick("unheard of") == caller.ranked("unheard of")[:4]  # some server must say that it does not exist


def test_a_model_whose_only_declared_holder_is_dead_is_unavailable_not_unknown() -> None:
    caller = Caller([node(1, models=frozenset({"digits"})), node(2, models=frozenset({"svm"}))])
    caller.router.set_alive("node-1", False)
    with pytest.raises(NoNode, match="No model server that holds 'digits' is alive"):
        caller.pick("digits")
    assert caller.pick("svm") == ["node-2"]


def test_a_new_declaration_counts_at_once() -> None:
    caller = Caller([node(1, models=frozenset({"digits"})), node(2, models=frozenset({"svm"}))])
    assert caller.pick("digits") == ["node-1"]
    caller.router.update([node(1, models=frozenset({"svm"})), node(2, models=frozenset({"digits"}))])
    assert caller.pick("digits") == ["node-2"]


def test_a_declared_node_that_begins_to_report_can_load_what_it_lacks() -> None:
    caller = Caller([node(1, models=frozenset({"digits"})), node(2, models=frozenset({"svm"}))])
    assert sorted(caller.pick("bayes")) == ["node-1", "node-2"]
    caller.router.cache_map.snapshot("node-2", {"svm": AVAILABLE})
    assert caller.pick("bayes") == ["node-2"]


# Zones


def test_of_two_equal_replicas_the_local_one_is_preferred_but_not_a_stranger() -> None:
    population = [node(number, zone="east" if number % 2 else "west") for number in range(20)]
    caller = Caller(population, zone="east", replicas=2, retries=0)
    zones = {chosen.id: chosen.zone for chosen in population}
    for model in models(200):
        home = caller.ranked(model)[:2]
        assert caller.pick(model) == sorted(home, key=lambda node_id: (zones[node_id] != "east", home.index(node_id)))


def test_a_remote_holder_is_preferred_to_a_local_node_without_the_model() -> None:
    caller = Caller([node(1, zone="east"), node(2, zone="west")], zone="east")
    caller.router.cache_map.change("node-2", "digits", AVAILABLE)
    assert caller.pick("digits") == ["node-2", "node-1"]


# Load


def test_the_less_loaded_replica_is_preferred_once_the_difference_counts() -> None:
    caller = Caller(nodes(10), replicas=2, load_step=4)
    home = caller.ranked("digits")
    caller.start(home[0], 3)
    assert caller.pick("digits")[:2] == home[:2]
    caller.start(home[0], 1)
    assert caller.pick("digits")[:2] == [home[1], home[0]]
    caller.end(home[0])
    assert caller.pick("digits")[:2] == home[:2]


def test_a_home_over_its_bound_is_skipped_for_the_next_in_the_order() -> None:
    caller = Caller(nodes(10), replicas=1, retries=0, load_floor=8)
    home = caller.ranked("digits")
    caller.start(home[0], 7)
    assert caller.pick("digits") == home[:1]
    caller.start(home[0], 1)
    assert caller.pick("digits") == home[1:2]
    for node_id in home[1:]:
        caller.start(node_id, 8)
    assert caller.pick("digits") == home[:1]  # 8 everywhere: the share of each is ten


def test_a_holder_over_its_bound_is_skipped_for_another_holder_only() -> None:
    caller = Caller(nodes(10), replicas=2, retries=0)
    home = caller.ranked("digits")
    caller.router.cache_map.change(home[4], "digits", AVAILABLE)
    caller.start(home[4], 100)
    assert caller.pick("digits")[0] == home[4]
    caller.router.cache_map.change(home[8], "digits", AVAILABLE)
    assert caller.pick("digits") == [home[8], home[4]]


def test_the_share_of_a_node_follows_the_dead_and_the_weights() -> None:
    caller = Caller(nodes(4), replicas=1, retries=0, load_floor=1, load_factor=1.5)
    home = caller.ranked("digits")
    for node_id in home:
        caller.start(node_id, 9)
    assert caller.pick("digits") == home[:1]  # 10 of 1.5 x 37 / 4
    caller.start(home[3], 40)
    caller.start(home[0], 10)
    assert caller.pick("digits") == home[:1]  # 20 of 1.5 x 87 / 4
    caller.router.set_alive(home[3], False)
    assert caller.pick("digits") == home[1:2]  # 20 of 1.5 x 38 / 3
    caller.router.update(node(n, weight=8.0 if f"node-{n}" == home[0] else 1.0) for n in range(4))
    assert caller.pick("digits") == [home[0]]


@pytest.mark.parametrize("skew", [0.0, 0.9, 1.1])
@pytest.mark.parametrize("factor", [1.1, 1.25])
def test_no_node_is_brought_over_the_bound_however_skewed_the_models(skew: float, factor: float) -> None:
    weights = [1.0, 1.0, 2.0, 1.0, 0.5, 1.0, 3.0, 1.0]
    population = [node(number, weight=weight) for number, weight in enumerate(weights)]
    made = fresh.router(replicas=1, load_factor=factor, load_floor=1)
    made.update(population)
    in_flight = dict.fromkeys((each.id for each in population), 0)
    share = {each.id: each.weight / sum(weights) for each in population}
    running: list[tuple[str, InFlight]] = []
    rng = random.Random(7)
    popularity = [rank**-skew for rank in range(1, 201)]  # Zipf
    for model in rng.choices(models(200), popularity, k=3_000):
        placement = made.pick(model, 0.0, "grpc")
        chosen = placement.nodes[0].id
        running.append((chosen, made.lease(placement)))
        in_flight[chosen] += 1
        assert in_flight[chosen] <= max(1, math.ceil(factor * len(running) * share[chosen] + 1e-9))
        if len(running) > 200:
            gone, lease = running.pop(rng.randrange(200))
            lease.release()
            in_flight[gone] -= 1


def test_a_hot_model_spreads_over_its_replicas_by_estimates_alone() -> None:
    made = fresh.router(replicas=3)
    made.update(nodes(10))
    count: dict[str, int] = {}
    for number in range(6_000):  # 600 calls a second, none of whose ends are seen
        chosen = made.pick("digits", number / 600, "grpc").nodes[0].id
        count[chosen] = count.get(chosen, 0) + 1
    home = [candidate.node.id for candidate in made.placements("digits")][:3]
    assert all(count[node_id] > 1_200 for node_id in home)


# Life and death


@given(
    st.integers(2, 9),
    st.integers(1, 3),
    st.lists(st.sampled_from(STATES), min_size=9, max_size=9),
    st.lists(st.sampled_from(["east", "west"]), min_size=9, max_size=9),
    st.lists(st.integers(0, 60), min_size=9, max_size=9),
    st.frozensets(st.integers(0, 8)),
    st.data(),
)
def test_the_death_of_a_node_moves_only_the_calls_that_it_would_have_had(
    count: int,
    replicas: int,
    states: list[Residency],
    zones: list[str],
    busy: list[int],
    dead: frozenset[int],
    data: st.DataObject,
) -> None:
    # Whatever is held, wherever the nodes stand and however busy they are: a floor above every load
    # takes the bound, the one thing that depends on the others, out of the question.
    population = [node(number, zone=zones[number]) for number in range(count)]
    caller = Caller(population, replicas=replicas, zone="east", load_floor=1_000, retries=9)
    for number in range(count):
        caller.router.cache_map.snapshot(f"node-{number}", {"m3": states[number]})
        caller.start(f"node-{number}", busy[number])
        caller.router.set_alive(f"node-{number}", number not in dead)
    victim = f"node-{data.draw(st.integers(0, count - 1))}"
    asked = ["m1", "m2", "m3", "m4"]
    if len({number for number in dead if number < count} | {int(victim[5:])}) == count:
        return
    before = {model: caller.pick(model) for model in asked}
    caller.router.set_alive(victim, False)
    for model in asked:
        assert caller.pick(model) == [node_id for node_id in before[model] if node_id != victim]
    caller.router.set_alive(victim, True)
    after = {model: caller.pick(model) for model in asked}
    assert all([n for n in after[m] if n != victim] == [n for n in before[m] if n != victim] for m in asked)


@pytest.mark.parametrize("count", [3, 10, 100])
def test_a_kill_moves_a_fair_share_of_ten_thousand_models_and_the_return_brings_them_back(count: int) -> None:
    caller = Caller(nodes(count))
    names = models(10_000)
    before = {model: caller.pick(model)[0] for model in names}
    caller.router.set_alive("node-1", False)
    during = {model: caller.pick(model)[0] for model in names}
    moved = {model for model in names if before[model] != during[model]}
    assert moved == {model for model in names if before[model] == "node-1"}
    assert abs(len(moved) - 10_000 / count) <= 4 * (10_000 / count) ** 0.5
    caller.router.set_alive("node-1", True)
    assert {model: caller.pick(model)[0] for model in names} == before


def test_the_models_of_a_dead_node_scatter_over_the_others() -> None:
    caller = Caller(nodes(10))
    orphans = [model for model in models(10_000) if caller.pick(model)[0] == "node-1"]
    caller.router.set_alive("node-1", False)
    heirs = [caller.pick(model)[0] for model in orphans]
    assert all(abs(heirs.count(f"node-{n}") - len(orphans) / 9) <= 45 for n in range(10) if n != 1)


@pytest.mark.parametrize("count", [3, 30])
def test_a_node_that_joins_or_leaves_moves_only_its_own_models(count: int) -> None:
    caller = Caller(nodes(count))
    names = models(2_000)
    before = {model: caller.pick(model)[0] for model in names}
    caller.router.update(nodes(count + 1))
    joined = {model: caller.pick(model)[0] for model in names}
    assert {joined[model] for model in names if joined[model] != before[model]} == {f"node-{count}"}
    caller.router.update(nodes(count))
    assert {model: caller.pick(model)[0] for model in names} == before


def test_nobody_to_ask_is_an_error_that_says_why() -> None:
    made = fresh.router()
    with pytest.raises(NoNode, match="No model server is known"):
        made.pick("digits", 0.0, "grpc")
    made.update([node(1, rest=None)])
    with pytest.raises(NoNode, match="No model server that speaks rest is alive"):
        made.pick("digits", 0.0, "rest")
    made.set_alive("node-1", False)
    with pytest.raises(NoNode, match="No model server is alive"):
        made.pick("digits", 0.0, "grpc")
    assert issubclass(NoNode, MeshError)


# Reload


def test_a_reload_keeps_load_and_death_and_takes_new_endpoints() -> None:
    caller = Caller(nodes(3), replicas=1, retries=2)
    home = caller.ranked("digits")
    caller.router.set_alive(home[0], False)
    caller.start(home[1], 40)
    number = int(home[1][5:])
    caller.router.update([node(number, grpc="10.9.9.9:1") if each.id == home[1] else each for each in nodes(3)])
    assert caller.pick("digits") == [home[2], home[1]]
    assert "10.9.9.9:1" in caller.router.pick("digits", caller.now, "grpc").endpoints("grpc")
    assert caller.router.load(home[1]) == pytest.approx(40)
    assert not caller.router.is_alive(home[0])


def test_a_node_that_left_is_forgotten_and_its_late_reports_have_no_effect() -> None:
    caller = Caller(nodes(2))
    caller.start("node-1", 5)
    caller.router.cache_map.change("node-1", "digits", AVAILABLE)
    caller.router.update(nodes(1))
    caller.end("node-1")
    caller.router.set_alive("node-1", False)
    assert caller.pick("digits") == ["node-0"]
    caller.router.update(nodes(2))
    caller.end("node-1")  # of the node before
    assert caller.router.is_alive("node-1")
    assert caller.router.load("node-1") == 0.0
    assert caller.router.cache_map.holders("digits") == {}


def test_two_nodes_of_one_id_are_refused_and_nothing_changes() -> None:
    caller = Caller(nodes(2))
    with pytest.raises(MeshError, match="'node-5'"):
        caller.router.update([node(5), node(5, grpc="10.0.0.6:8500")])
    assert {known.id for known in caller.router.nodes} == {"node-0", "node-1"}


def test_placements_show_every_candidate_and_change_nothing() -> None:
    caller = Caller(nodes(4))
    home = caller.ranked("digits")
    caller.router.cache_map.change(home[2], "digits", LOADING)
    caller.router.set_alive(home[0], False)
    caller.start(home[1], 2)
    before = caller.router.load(home[1])
    shown = caller.router.placements("digits")
    assert [(each.node.id, each.rank, each.alive, each.state) for each in shown] == [
        (home[2], 2, True, LOADING),
        (home[0], 0, False, Residency.ABSENT),
        (home[1], 1, True, Residency.ABSENT),
        (home[3], 3, True, Residency.ABSENT),
    ]
    assert shown[2].load == before == 2.0


def test_what_a_pick_would_say_is_what_it_says_and_moves_nothing() -> None:
    caller = Caller(nodes(12), replicas=2, retries=2, load_floor=2.0)
    dice = random.Random(3)
    for step, model in enumerate(models(120)):
        home = caller.ranked(model)
        caller.router.cache_map.change(home[dice.randrange(12)], model, dice.choice(STATES))
        caller.start(home[dice.randrange(12)], dice.randrange(3))
        caller.router.set_alive(f"node-{dice.randrange(12)}", dice.random() < 0.7)
        now = 1000.0 * step
        caller.router.tick(now)
        loads = [caller.router.load(each.id) for each in caller.router.nodes]
        would = caller.router.would_pick(model, now, "grpc")
        assert [caller.router.load(each.id) for each in caller.router.nodes] == loads
        assert caller.router.demand.models() == models(120)[:step], "nothing was counted"
        assert caller.router.would_pick_node(would.nodes[0].id, "grpc").nodes == would.nodes[:1]
        assert would == caller.router.pick(model, now, "grpc")


def test_a_placement_tells_bound_and_zone() -> None:
    caller = Caller([node(0, zone="here"), node(1, zone="there")], zone="here", load_floor=1.0, replicas=1)
    caller.start("node-0", 9)
    caller.router.tick(1.0)
    shown = {each.node.id: (each.over_bound, each.remote) for each in caller.router.placements("digits")}
    assert shown == {"node-0": (True, False), "node-1": (False, True)}


def test_a_leaving_node_is_asked_only_for_what_nobody_else_holds() -> None:
    router = fresh.router(replicas=1, retries=8)
    router.update(nodes(3))
    first, second, third = [each.node.id for each in router.placements("m")]
    for each in (first, second, third):
        router.cache_map.snapshot(each, {})
    router.cache_map.change(first, "m", Residency.AVAILABLE)
    router.cache_map.leave(first)
    assert _order(router, "m")[0] == first  # a copy that goes answers sooner than a load
    router.cache_map.change(second, "m", Residency.LOADING)
    assert _order(router, "m") == [first, second, third]
    assert not router.expected_wait("m", 0.0, "grpc").cold
    router.cache_map.change(third, "m", Residency.AVAILABLE)
    assert _order(router, "m") == [third, first, second]
    assert _order(router, "unheard of")[-1] == first  # it is to load nothing any more
    router.cache_map.leave(first, False)
    assert _order(router, "m")[0] == first


def _order(router: Router, model: str) -> list[str]:
    return [each.id for each in router.pick(model, 0.0, "grpc").nodes]


def test_the_expected_wait_of_a_call_is_that_of_the_node_it_would_go_to() -> None:
    load_waits = LoadWaits()
    router = fresh.router(load_waits, replicas=1)
    router.update(nodes(3))
    first, second, third = [each.node.id for each in router.placements("m")]
    assert router.expected_wait("m", 0.0, "grpc") == RESIDENT  # nobody knows
    for each in (first, second, third):
        router.cache_map.snapshot(each, {})
    assert router.expected_wait("m", 0.0, "rest") == ExpectedWait(cold=True)
    load_waits.told(first, {}, {"m": 4.0}, 9.0, 0.0)
    load_waits.told(second, {}, {}, 2.0, 0.0)
    assert router.expected_wait("m", 0.0, "grpc") == ExpectedWait(cold=True, load_seconds=4.0)
    router.set_alive(first, False)
    assert router.expected_wait("m", 0.0, "grpc") == ExpectedWait(cold=True, load_seconds=2.0)
    router.cache_map.change(third, "m", Residency.LOADING)
    load_waits.told(third, {"m": Residency.LOADING}, {"m": 1.5}, 9.0, 10.0)
    assert router.expected_wait("m", 10.5, "grpc") == ExpectedWait(cold=True, load_seconds=1.0)
    router.cache_map.change(second, "m", Residency.AVAILABLE)
    assert router.expected_wait("m", 10.5, "grpc") == RESIDENT
    for each in (second, third):
        router.set_alive(each, False)
    assert router.expected_wait("m", 10.5, "grpc") == RESIDENT  # it fails at once
    assert router.load(first) == router.load(second) == 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(Residency))), max_size=12), st.integers(1, 3))
def test_the_expected_wait_speaks_of_the_node_that_is_picked(
    reports: list[tuple[int, Residency]], replicas: int
) -> None:
    load_waits = LoadWaits()
    router = fresh.router(load_waits, replicas=replicas, load_floor=1)
    router.update(nodes(5))
    ids = [each.id for each in router.nodes]
    for number, state in reports:
        router.cache_map.change(ids[number], "m", state)
        load_waits.told(ids[number], {}, {"m": float(number)}, None, 0.0)
        expected_wait = router.expected_wait("m", 0.0, "grpc")
        picked = router.pick("m", 0.0, "grpc").nodes[0].id
        held = router.cache_map.state(picked, "m") is Residency.AVAILABLE or not router.cache_map.is_live(picked)
        assert expected_wait == (RESIDENT if held else ExpectedWait(True, float(ids.index(picked))))
