"""What is known of calls: which models, which nodes in which order, with which shares, and when it is said."""

import math
from collections.abc import Iterable

import pytest

from mesh.known_map import PARTS, KnownModel
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.known import Absence, KnownModels
from mesh.routing.router import Router
from mesh.routing.settings import KnownSettings, RoutingSettings

AVAILABLE, DRAINING = Residency.AVAILABLE, Residency.DRAINING
REST, GRPC = 1, 16


class Fleet:
    """Nodes n0, n1, ... that hold models by their reports, and what is known of calls to them."""

    def __init__(self, nodes: int = 3, models: int = 100, seconds: float = 1.0, **routing: float) -> None:
        self.now = 100.0
        self.cache_map = CacheMap()
        self.router = Router(RoutingSettings(**routing), self.cache_map, LoadWaits())  # type: ignore[arg-type]
        self.router.update(node(n) for n in range(nodes))
        self.deciding: set[str] = set()
        settings = KnownSettings(models=models, seconds=seconds)
        self.known = KnownModels(settings, self.router, self.deciding.__contains__, GRPC)
        self.cache_map.on_loss = lambda model: self.known.lost(model, self.now)
        self.router.on_loss = lambda: self.known.lost("", self.now)

    def holds(self, model: str, *nodes: int) -> None:
        for n in nodes:
            self.cache_map.change(f"n{n}", model, AVAILABLE)

    def call(self, model: str, form: int = REST, times: int = 1) -> None:
        for _ in range(times):
            self.router.pick(model, self.now, "grpc" if form == GRPC else "rest")
        self.known.called(model, form)

    def look(self, after: float = 1.0) -> bool:
        """Whether it led to another table."""
        self.now += after
        before = self.known.version
        for _ in self.known.look(self.now):
            pass
        return self.known.version != before

    def rests(self) -> None:
        """Some time goes by without a change; the next look is still to come."""
        assert not self.look(10.0)
        self.now += 0.3

    def table(self) -> dict[str, KnownModel]:
        return {model.name: model for model in self.known.models}

    def shares(self, model: str) -> list[tuple[int, list[str]]]:
        """How many calls go to which nodes, by their numbers."""
        return [(parts, numbers(nodes)) for parts, nodes in self.table()[model].shares["rest"]]


def node(n: int, **fields: object) -> Node:
    return Node(f"n{n}", grpc=f"10.0.0.{n}:8500", rest=f"10.0.0.{n}:8501", **fields)  # type: ignore[arg-type]


def numbers(endpoints: Iterable[str]) -> list[str]:
    return [endpoint.split(":")[0].removeprefix("10.0.0.") for endpoint in endpoints]


def test_a_model_that_is_held_and_called_is_known() -> None:
    fleet = Fleet()
    fleet.holds("m", 1)
    assert fleet.look()  # the first table says that nothing is known
    assert fleet.table() == {}
    fleet.call("m")
    assert fleet.look()
    ((parts, order),) = fleet.shares("m")
    assert (parts, order[0]) == (PARTS, "1")
    assert sorted(order) == ["0", "1", "2"], "the later ones serve retries"
    assert fleet.table()["m"].forms == REST
    assert "grpc" not in fleet.table()["m"].shares


def test_the_nodes_are_those_that_the_server_would_name() -> None:
    fleet = Fleet(nodes=8, replicas=1, retries=2)
    names = [f"m{n}" for n in range(50)]
    for number, name in enumerate(names):
        fleet.holds(name, number % 8)
        fleet.call(name)
    fleet.look(10.0)
    for name in names:
        ((_, order),) = fleet.table()[name].shares["rest"]
        assert order == fleet.router.pick(name, fleet.now, "rest").endpoints("rest")
        fleet.now += 10.0


def test_what_was_not_called_lately_is_not_known() -> None:
    fleet = Fleet()
    fleet.holds("m", 1)
    fleet.call("other")
    fleet.look()
    assert fleet.table() == {}
    fleet.call("m")
    fleet.look(1000.0)
    assert fleet.table() == {}


def test_what_is_not_held_is_not_known() -> None:
    fleet = Fleet()
    for model, state in {"loading": Residency.LOADING, "failed": Residency.FAILED, "drains": DRAINING}.items():
        fleet.cache_map.change("n1", model, state)
        fleet.call(model)
    fleet.call("nowhere")
    fleet.look()
    assert fleet.table() == {}


def test_what_a_node_has_said_in_a_reply_only_is_not_enough() -> None:
    fleet = Fleet()
    fleet.cache_map.hint("n1", "m", AVAILABLE)
    fleet.call("m")
    fleet.look()
    assert fleet.table() == {}


def test_a_declaration_is_enough() -> None:
    fleet = Fleet(nodes=0)
    fleet.router.update([node(1, models=frozenset({"m"})), node(2, models=frozenset({"other"}))])
    fleet.call("m")
    fleet.look()
    assert fleet.shares("m") == [(PARTS, ["1"])], "a node that does not declare it would say that it does not exist"


def test_models_that_need_decisions_are_not_known_and_go_at_once() -> None:
    fleet = Fleet()
    fleet.holds("m", 1)
    fleet.deciding.add("m")
    fleet.call("m")
    fleet.look()
    assert fleet.table() == {}
    fleet.deciding.clear()
    fleet.known.lost("", fleet.now)
    assert fleet.look()
    assert list(fleet.table()) == ["m"]
    fleet.deciding.add("m")
    fleet.rests()
    fleet.known.lost("", fleet.now)
    assert fleet.known.wake_up == fleet.now
    assert fleet.look(0.0)
    assert fleet.table() == {}


def test_each_form_is_known_once_it_was_called() -> None:
    fleet = Fleet()
    fleet.holds("m", 1)
    fleet.call("m")
    fleet.look()
    fleet.call("m", GRPC)
    assert fleet.look()
    known = fleet.table()["m"]
    assert known.forms == REST | GRPC
    assert known.shares["grpc"][0][1][0] == "10.0.0.1:8500"
    fleet.call("m", GRPC)
    assert not fleet.look()


def test_holders_in_the_first_group_share_the_calls_and_each_has_the_others_behind_it() -> None:
    fleet = Fleet(nodes=4, replicas=2, retries=1)
    order = [name.removeprefix("n") for name in fleet.router.order("m")]
    for held in order[:3]:
        fleet.holds("m", int(held))
    fleet.call("m")
    fleet.look()
    first, second, third, _ = order
    assert fleet.shares("m") == [(PARTS // 2, [first, second, third]), (PARTS // 2, [second, first, third])]


def test_a_holder_outside_of_the_group_serves_retries_only() -> None:
    fleet = Fleet(nodes=6, replicas=2)
    order = [name.removeprefix("n") for name in fleet.router.order("m")]
    fleet.holds("m", int(order[0]), int(order[4]))
    fleet.call("m")
    fleet.look()
    ((parts, nodes),) = fleet.shares("m")
    assert (parts, nodes[:2]) == (PARTS, [order[0], order[4]])


def test_a_holder_in_another_zone_serves_retries_only() -> None:
    fleet = Fleet(nodes=0, replicas=2, zone="here")  # type: ignore[arg-type]
    fleet.router.update([node(1, zone="here"), node(2, zone="there")])
    fleet.holds("m", 1, 2)
    fleet.call("m")
    fleet.look()
    assert fleet.shares("m") == [(PARTS, ["1", "2"])]


def test_shares_follow_the_weights() -> None:
    fleet = Fleet(nodes=0, replicas=3)
    fleet.router.update([node(1, weight=1.0), node(2, weight=2.0), node(3, weight=3.0)])
    fleet.holds("m", 1, 2, 3)
    fleet.call("m")
    fleet.look()
    assert {nodes[0]: parts for parts, nodes in fleet.shares("m")} == {"1": 10, "2": 20, "3": 30}


def test_a_busy_node_gets_less_and_small_changes_of_load_change_nothing() -> None:
    fleet = Fleet(nodes=2, replicas=2, call_seconds=600.0, load_floor=16.0)
    fleet.holds("m", 0, 1)
    fleet.holds("other", 0)
    fleet.call("m")
    fleet.look()
    even = fleet.shares("m")
    assert [parts for parts, _ in even] == [30, 30]
    for _ in range(8):
        fleet.router.pick("other", fleet.now, "rest")
    assert not fleet.look(), "below the floor loads do not matter"
    for _ in range(56):
        fleet.router.pick("other", fleet.now, "rest")
    assert fleet.look()
    shares = {nodes[0]: parts for parts, nodes in fleet.shares("m")}
    assert shares["0"] < 25 < 35 < shares["1"]
    assert sum(shares.values()) == PARTS
    fleet.router.pick("other", fleet.now, "rest")
    assert not fleet.look()


def test_a_node_that_dies_is_out_at_once_and_comes_back_later() -> None:
    fleet = Fleet(nodes=2, replicas=2)
    fleet.holds("m", 0, 1)
    fleet.call("m")
    fleet.look()
    fleet.rests()
    fleet.router.set_alive("n1", False)
    assert fleet.known.wake_up == fleet.now
    assert fleet.look(0.0)
    assert fleet.shares("m") == [(PARTS, ["0"])]
    fleet.router.set_alive("n1", True)
    assert fleet.known.wake_up == fleet.now + 1.0
    assert fleet.look()
    assert len(fleet.shares("m")) == 2


def test_an_eviction_is_out_at_once() -> None:
    fleet = Fleet(nodes=2, replicas=1)
    fleet.holds("m", 0)
    fleet.call("m")
    fleet.look()
    fleet.rests()
    fleet.cache_map.change("n0", "m", DRAINING)
    assert fleet.known.wake_up == fleet.now
    assert fleet.look(0.0)
    assert fleet.table() == {}


def test_a_node_that_announces_its_end_or_is_heard_no_longer_is_out_at_once() -> None:
    fleet = Fleet(nodes=2, replicas=1)
    fleet.holds("a", 0)
    fleet.holds("b", 1)
    fleet.call("a")
    fleet.call("b")
    fleet.look()
    fleet.rests()
    fleet.cache_map.leave("n0")
    assert fleet.known.wake_up == fleet.now
    fleet.look(0.0)
    assert list(fleet.table()) == ["b"]
    fleet.rests()
    fleet.cache_map.forget("n1")
    assert fleet.known.wake_up == fleet.now
    fleet.look(0.0)
    assert fleet.table() == {}


def test_the_loss_of_what_is_not_known_hurries_nobody() -> None:
    fleet = Fleet()
    fleet.holds("m", 0)
    fleet.holds("idle", 0)
    fleet.call("m")
    fleet.look()
    wake_up = fleet.known.wake_up
    fleet.cache_map.change("n0", "idle", DRAINING)
    assert fleet.known.wake_up == wake_up


def test_losses_in_a_row_leave_envoy_room_to_breathe() -> None:
    fleet = Fleet(models=10_000)
    for n in range(5000):
        fleet.holds(f"m{n}", 0)
        fleet.call(f"m{n}")
    fleet.look(0.01)
    changed = fleet.now
    fleet.now += 0.01
    fleet.cache_map.change("n0", "m7", DRAINING)
    assert math.isclose(fleet.known.wake_up, changed + 0.5), "20 us of Envoy's main thread a model, a fifth of its time"


def test_the_same_content_is_not_said_again() -> None:
    fleet = Fleet()
    fleet.holds("m", 1)
    fleet.call("m")
    assert fleet.look()
    fleet.call("m", times=50)
    fleet.holds("idle", 2)
    assert not fleet.look()


def test_a_model_whose_calls_are_not_seen_stays() -> None:
    fleet = Fleet()
    fleet.holds("m", 1)
    fleet.call("m")
    fleet.look()
    assert not fleet.look(100_000.0)
    assert list(fleet.table()) == ["m"]


@pytest.mark.parametrize(("sees_all", "known"), [(True, "new"), (False, "old")])
def test_where_all_calls_are_seen_a_place_goes_to_who_is_called_now(sees_all: bool, known: str) -> None:
    fleet = Fleet(models=1)
    fleet.known.sees_all = sees_all
    fleet.holds("old", 0)
    fleet.call("old", times=1000)
    fleet.look()
    fleet.now += 300.0
    fleet.holds("new", 0)
    fleet.call("new", times=3)
    assert fleet.look() is sees_all
    assert list(fleet.table()) == [known]


def test_the_most_called_are_known_and_a_place_is_lost_only_to_one_called_clearly_more() -> None:
    fleet = Fleet(models=2)
    for model, calls in {"a": 10, "b": 20, "c": 30}.items():
        fleet.holds(model, 0)
        fleet.call(model, times=calls)
    fleet.look()
    assert set(fleet.table()) == {"b", "c"}
    fleet.call("a", times=12)
    assert not fleet.look(), "a is called as much as b was, not clearly more"
    fleet.call("a", times=40)
    assert fleet.look()
    assert set(fleet.table()) == {"a", "c"}


def test_a_place_whose_calls_were_seen_long_ago_is_easily_lost() -> None:
    fleet = Fleet(models=1)
    fleet.holds("old", 0)
    fleet.call("old", times=1000)
    fleet.look()
    fleet.now += 6000.0
    fleet.holds("new", 0)
    fleet.call("new", times=3)
    assert fleet.look()
    assert list(fleet.table()) == ["new"]


def ends(fleet: Fleet, model: str, rate: float, seconds: float) -> None:
    """Known calls for the model end at this rate, for so long, and are told of."""
    for _ in range(int(10 * seconds)):
        fleet.now += 0.1
        fleet.router.demand.called(model, fleet.now, int(rate / 10))
        fleet.known.ended(model, fleet.now)


@pytest.mark.parametrize("sees_all", [False, True])
def test_of_a_model_that_is_called_often_some_calls_stand_for_the_others(sees_all: bool) -> None:
    fleet = Fleet()
    fleet.known.sees_all = sees_all
    fleet.holds("m", 1)
    fleet.call("m")
    fleet.look()
    ends(fleet, "m", 40, 200)
    assert not fleet.look()
    assert not fleet.table()["m"].sampled
    ends(fleet, "m", 60, 200)
    assert fleet.look()
    assert fleet.table()["m"].sampled
    ends(fleet, "m", 40, 200)
    assert not fleet.look(), "a little less is no reason for another map"
    ends(fleet, "m", 10, 200)
    assert fleet.look() is sees_all, "no word of a call is no sign that there is none, unless all of them are told of"
    assert fleet.table()["m"].sampled is not sees_all


def test_all_calls_are_told_of_where_the_settings_want_it() -> None:
    fleet = Fleet()
    fleet.known = KnownModels(KnownSettings(sampled_from=None), fleet.router, fleet.deciding.__contains__, GRPC)
    fleet.holds("m", 1)
    fleet.call("m")
    fleet.look()
    ends(fleet, "m", 10_000, 10)
    assert not fleet.look()
    assert not fleet.table()["m"].sampled


def test_no_endpoint_no_calls_of_that_kind() -> None:
    fleet = Fleet(nodes=0)
    fleet.router.update([Node("n1", rest="10.0.0.1:8501", models=frozenset({"m"}))])
    fleet.call("m")
    fleet.known.called("m", GRPC)
    fleet.look()
    assert set(fleet.table()["m"].shares) == {"rest"}


def test_a_name_that_cannot_be_is_not_known() -> None:
    fleet = Fleet()
    for name in ("..", "a/b", "x" * 256, ""):
        fleet.holds(name, 0)
        fleet.call(name)
    fleet.look()
    assert fleet.table() == {}


def test_what_comes_between_two_steps_is_not_lost() -> None:
    fleet = Fleet(models=1000, seconds=5.0)
    for n in range(200):
        fleet.holds(f"m{n}", 0)
        fleet.call(f"m{n}")
    fleet.now += 1.0
    steps = fleet.known.look(fleet.now)
    next(steps)
    fleet.holds("late", 1)
    fleet.call("late")
    fleet.cache_map.change("n0", "m0", DRAINING)
    for _ in steps:
        pass
    fleet.look()
    assert "late" in fleet.table()
    assert "m0" not in fleet.table()


def test_why_a_model_is_not_known_is_told_without_a_trace() -> None:
    fleet = Fleet()
    assert fleet.known.absence("m", REST) is Absence.NOT_HELD
    fleet.holds("m", 0, 1, 2)
    assert fleet.known.absence("m", REST) is Absence.NOT_CALLED
    assert fleet.known.find("m") is None
    fleet.look()
    fleet.call("m")
    assert fleet.known.absence("m", REST) is Absence.WAITS
    assert fleet.known.absence("m", GRPC) is Absence.NOT_CALLED
    assert fleet.look()
    assert fleet.known.absence("m", REST) is None
    assert fleet.known.absence("m", GRPC) is Absence.NOT_CALLED
    assert fleet.known.find("m") is fleet.table()["m"]
    fleet.deciding.add("m")
    fleet.known.lost("m", fleet.now)
    assert fleet.look()
    assert fleet.known.absence("m", REST) is Absence.DECISION
