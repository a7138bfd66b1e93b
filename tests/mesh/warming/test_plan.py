"""The warm-up plan over a fleet that loads what it is asked for, in virtual time."""

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.node import Node
from mesh.residency.state import Residency
from mesh.warming.load_requests import WarmUp
from mesh.warming.plan import WarmPlan
from mesh.warming.settings import WarmSettings
from tests.mesh.routing import population as fresh
from tests.mesh.routing.population import nodes

AVAILABLE, LOADING, ABSENT, FAILED = Residency.AVAILABLE, Residency.LOADING, Residency.ABSENT, Residency.FAILED
STEP = 0.1


class Fleet:
    """Nodes that load in `load_seconds`, and an edge with its plan."""

    def __init__(self, count: int, room: int = 100, load_seconds: float = 0.5, **changes: object) -> None:
        self.router = fresh.router(load_floor=1e6, **changes.pop("routing", {}))  # type: ignore[arg-type]
        self.map = self.router.cache_map
        self.room = room
        self.load_seconds = load_seconds
        self.refusing: set[str] = set()
        self.plan = WarmPlan(WarmSettings(**changes), self.router, self.map, self.free)  # type: ignore[arg-type]
        self.loading: list[tuple[float, WarmUp]] = []
        self.asked: list[tuple[float, WarmUp]] = []
        self.cold: list[tuple[str, str]] = []
        self.now = 1000.0
        self.population(count)
        self.step(1.0)  # all have joined

    def population(self, count: int) -> None:
        known = {node.id for node in self.router.nodes}
        self.router.update(nodes(count))
        for node in self.router.nodes:
            if node.id not in known:
                self.map.snapshot(node.id, {})

    def free(self, node_id: str) -> float:
        return self.room - len(self.map.models(node_id))

    def call(self, model: str) -> str:
        """Route a call, and load what it finds absent, as a node does."""
        node_id = self.router.pick(model, self.now, "grpc").nodes[0].id
        if self.map.state(node_id, model) is not AVAILABLE:
            self.cold.append((node_id, model))
            self.map.change(node_id, model, AVAILABLE)
        return node_id

    def step(self, seconds: float = STEP) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now += STEP
            for due, warm_up in [each for each in self.loading if each[0] <= self.now]:
                self.loading.remove((due, warm_up))
                self.map.change(warm_up.node_id, warm_up.model, AVAILABLE)
                self.plan.ended(warm_up, True, self.now)
            for warm_up in self.plan.next(self.now):
                self.asked.append((self.now, warm_up))
                if warm_up.node_id in self.refusing:
                    self.plan.ended(warm_up, False, self.now)
                    continue
                assert self.map.state(warm_up.node_id, warm_up.model) is ABSENT
                if warm_up.into_free_room:
                    assert self.free(warm_up.node_id) > 0
                self.map.change(warm_up.node_id, warm_up.model, LOADING)
                self.loading.append((self.now + self.load_seconds, warm_up))

    def leave(self, node_id: str, at_most: float = 60.0) -> float:
        """Drain a node as its edge sees it. Returns how long the edge needed it."""
        start = self.now
        self.map.leave(node_id)
        self.step()
        while self.plan.needs(node_id) and self.now < start + at_most:
            self.step()
        return self.now - start


def test_nothing_is_asked_for_while_all_is_at_home() -> None:
    fleet = Fleet(4)
    for number in range(50):
        fleet.call(f"m{number}")
    fleet.step(10)
    assert fleet.asked == []


def test_what_a_leaving_node_holds_is_loaded_by_the_next_before_its_calls_move() -> None:
    fleet = Fleet(4)
    names = [f"m{number}" for number in range(40)]
    at = {model: fleet.call(model) for model in names}
    leaver = at["m0"]
    held = [model for model in names if at[model] == leaver]
    fleet.cold.clear()
    fleet.map.leave(leaver)
    assert fleet.plan.needs(leaver)
    assert fleet.call("m0") == leaver  # nobody else holds it yet
    taken = fleet.leave(leaver)
    assert not fleet.plan.needs(leaver)
    assert taken < len(held) / 10 + 2
    assert {fleet.call(model) for model in names} == {node.id for node in fleet.router.nodes} - {leaver}
    assert fleet.cold == []
    assert Counter(warm_up.model for _, warm_up in fleet.asked) == Counter(held)
    for _, warm_up in fleet.asked:  # to the node that is the home without the leaver
        assert warm_up.node_id == next(each for each in fleet.router.order(warm_up.model) if each != leaver)


def test_models_in_demand_go_first_and_others_only_into_free_room() -> None:
    fleet = Fleet(2, room=3, per_node=1)
    home = {model: fleet.router.order(model)[0] for model in map("m{}".format, range(200))}
    leaver = "node-0"
    mine = [model for model, node_id in home.items() if node_id == leaver]
    quiet, called = mine[:2], mine[2:5]
    fleet.map.snapshot(leaver, dict.fromkeys([*quiet, *called], AVAILABLE))
    for model in called:
        fleet.call(model)
    fleet.leave(leaver)
    assert [warm_up.model for _, warm_up in fleet.asked] == called  # then there is no room for what nobody calls
    assert not any(warm_up.into_free_room for _, warm_up in fleet.asked)


def test_who_refuses_is_passed_over_and_when_all_do_it_is_given_up() -> None:
    fleet = Fleet(3)
    leaver = fleet.call("m")
    second, third = [each for each in fleet.router.order("m") if each != leaver]
    fleet.refusing = {second}
    fleet.leave(leaver)
    assert [warm_up.node_id for _, warm_up in fleet.asked] == [second, third]
    assert fleet.call("m") == third
    other = Fleet(3)
    leaver = other.call("m")
    other.refusing = {"node-0", "node-1", "node-2"}
    assert other.leave(leaver) < 1
    assert not other.plan.needs(leaver)


def test_a_node_that_comes_back_is_needed_anew_when_it_leaves_again() -> None:
    fleet = Fleet(2)
    leaver = fleet.call("m")
    fleet.leave(leaver)
    fleet.map.leave(leaver, False)
    fleet.step()
    fleet.map.leave(leaver)
    assert fleet.plan.needs(leaver)


def test_a_joining_node_takes_its_share_without_a_cold_call_and_at_a_bounded_rate() -> None:
    fleet = Fleet(4, per_second=5, per_node=2)
    names = [f"m{number}" for number in range(100)]
    for model in names:
        fleet.call(model)
    fleet.cold.clear()
    fleet.population(5)
    share = [model for model in names if fleet.router.order(model)[0] == "node-4"]
    assert len(share) > 10
    start = fleet.now
    for _ in range(40):
        fleet.step(1.0)
        for model in names:
            fleet.call(model)
    assert fleet.cold == []
    assert sorted(warm_up.model for _, warm_up in fleet.asked) == sorted(share)
    assert fleet.map.models("node-4") == dict.fromkeys(share, AVAILABLE)
    assert "node-4" in {fleet.call(model) for model in share}
    for at, _ in fleet.asked:
        assert sum(at <= other < at + 1.0 for other, _ in fleet.asked) <= 5 + 5
    assert fleet.asked[-1][0] - start >= (len(share) - 5) / 5 - STEP


def test_a_joining_node_loads_only_what_goes_into_its_free_room() -> None:
    fleet = Fleet(3)
    names = [f"m{number}" for number in range(60)]
    for model in names:
        fleet.call(model)
    fleet.step(1)
    fleet.room = 5
    fleet.population(4)
    fleet.step(60)
    assert Counter(warm_up.node_id for _, warm_up in fleet.asked) == {"node-3": 5}
    assert all(warm_up.into_free_room for _, warm_up in fleet.asked)


def test_a_node_has_joined_one_day_and_is_no_longer_asked() -> None:
    fleet = Fleet(3)
    first, second = fleet.router.order("m")[:2]
    fleet.step(1)
    fleet.map.change(second, "m", AVAILABLE)
    fleet.call("m")
    fleet.step(10)
    assert fleet.asked == []
    fleet.router.set_alive(first, False)
    fleet.step(1)
    fleet.router.set_alive(first, True)
    fleet.step(10)
    assert [warm_up for _, warm_up in fleet.asked] == [WarmUp(first, "m", into_free_room=True)]


def test_a_hot_model_gets_more_nodes_and_gives_them_back() -> None:
    fleet = Fleet(6, replica_load=4.0, routing={"replicas": 1, "max_replicas": 4, "demand_seconds": 5.0})

    def load(calls_a_second: int, seconds: int) -> Counter[str]:
        answered: Counter[str] = Counter()
        for _ in range(int(seconds / STEP)):
            fleet.step()
            for _ in range(int(calls_a_second * STEP)):
                answered[fleet.call("hot")] += 1
        return answered

    assert len(load(20, 20)) == 1  # 2 calls in flight
    fleet.cold.clear()
    load(100, 30)  # 10 calls in flight: 3 copies of 4
    assert fleet.router.spread_of("hot") == 3
    assert set(load(100, 5)) == set(fleet.router.order("hot")[:3])
    load(1000, 30)
    assert fleet.router.spread_of("hot") == 4  # the bound
    load(70, 30)  # 7: two would do, but growth and shrinkage keep a distance
    assert fleet.router.spread_of("hot") == 4
    load(40, 30)
    assert fleet.router.spread_of("hot") == 2
    load(0, 60)
    assert fleet.router.spread_of("hot") == 1
    assert fleet.router.widened_models == ()
    assert fleet.cold == []  # every copy was there before its calls came


def test_every_copy_gets_calls_where_a_step_of_load_is_no_more_than_a_copy_carries() -> None:
    for each, step in ((2.0, 2.0), (4.0, 4.0), (4.0, 1.0)):
        fleet = Fleet(4, replica_load=each, routing={"replicas": 1, "load_step": step, "demand_seconds": 1.0})
        for spread in (2, 3, 4):
            calls = int(each * (spread - 1)) + 1  # each 0.1 s, which a call takes: just enough for one copy more
            answered: Counter[str] = Counter()
            for number in range(100):
                fleet.step()
                for _ in range(calls):
                    node_id = fleet.call("hot")
                    answered[node_id] += number >= 50
            assert fleet.router.spread_of("hot") == spread
            assert set(+answered) == set(fleet.router.order("hot")[:spread])


def test_a_steady_load_changes_the_spread_once() -> None:
    for load in (3.9, 4.1, 7.9, 8.1, 11.0):
        fleet = Fleet(6, replica_load=4.0, routing={"replicas": 1, "demand_seconds": 5.0})
        spreads = []
        for number in range(600):
            fleet.step()
            calls = math.floor((number + 1) * load) - math.floor(number * load)
            for _ in range(calls):
                fleet.call("hot")
            spreads.append(fleet.router.spread_of("hot"))
        assert spreads == sorted(spreads)


def test_without_reports_nothing_is_warmed_or_widened() -> None:
    router = fresh.router(replicas=1)
    router.update(nodes(4))
    plan = WarmPlan(WarmSettings(replica_load=1.0), router, router.cache_map, lambda _: math.inf)
    for number in range(2000):
        router.pick("hot", number / 100, "grpc")
        assert plan.next(number / 100) == []
    assert router.spread_of("hot") == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 30)),
        st.tuples(st.just("leave"), st.integers(0, 4)),
        st.tuples(st.just("back"), st.integers(0, 4)),
        st.tuples(st.just("die"), st.integers(0, 4)),
        st.tuples(st.just("wake"), st.integers(0, 4)),
        st.tuples(st.just("fail"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(steps, st.integers(1, 3), st.integers(1, 20))
def test_whatever_happens_only_willing_nodes_are_asked_and_within_bounds(
    story: list[tuple[str, int]], per_node: int, per_second: int
) -> None:
    fleet = Fleet(5, room=8, load_seconds=1.0, per_node=per_node, per_second=per_second)
    dead: set[str] = set()
    for what, number in story:
        node_id, model = f"node-{number % 5}", f"m{number}"
        if what == "call" and len(dead) < 5:
            fleet.call(model)
        elif what in ("leave", "back"):
            fleet.map.leave(node_id, what == "leave")
        elif what in ("die", "wake"):
            (dead.add if what == "die" else dead.discard)(node_id)
            fleet.router.set_alive(node_id, what == "wake")
        elif what == "fail":
            fleet.map.change(f"node-{number % 5}", model, FAILED)
        before = len(fleet.asked)
        fleet.step(STEP * (number if what == "wait" else 1))
        for _, warm_up in fleet.asked[before:]:
            assert warm_up.node_id not in dead
            assert not fleet.map.is_leaving(warm_up.node_id)
        under_way = Counter(warm_up.node_id for _, warm_up in fleet.loading)
        assert max(under_way.values(), default=0) <= per_node
    for at, _ in fleet.asked:
        assert sum(at <= other < at + 1.0 for other, _ in fleet.asked) <= 2 * per_second + 1
    for node in fleet.router.nodes:  # and in the end nobody waits for what will never come
        fleet.router.set_alive(node.id, True)
    fleet.leave("node-0")
    assert not fleet.plan.needs("node-0")


def test_a_model_in_demand_that_only_another_zone_holds_comes_home_where_there_is_room() -> None:
    for room, homecomings in ((100, 1), (1, 0)):
        fleet = Fleet(2, room=room)
        far = Node("far", zone="west", reached_by="header", speaks=frozenset({"grpc"}))
        fleet.router.update([*nodes(2), far])
        fleet.map.snapshot("far", {"bert": AVAILABLE})
        for node_id in ("node-0", "node-1"):
            fleet.map.snapshot(node_id, {"other": AVAILABLE})
        fleet.step(2.0)
        assert fleet.asked == [], "nobody has called for it"
        assert fleet.call("bert") == "far"
        fleet.step(2.0)
        assert len(fleet.asked) == homecomings
        assert fleet.call("bert") == ("far" if not homecomings else fleet.router.order("bert")[0])
