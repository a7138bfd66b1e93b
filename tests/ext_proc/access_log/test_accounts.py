"""No call is counted twice, and each known one counts once: by a router and estimates of the real kind."""

from random import Random
from statistics import mean, stdev

import pytest

from ext_proc.access_log.accounts import EdgeAccounts
from ext_proc.access_log.entries import EndedCall
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate
from ext_proc.broker.settings import BrokerSettings
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.routing.placement import RESIDENT
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings

BERT = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "bert")
A, B = Node("a", rest="10.0.0.1:1"), Node("b", rest="10.0.0.2:1")


class Edge:
    def __init__(self) -> None:
        self.router = Router(RoutingSettings(replicas=1), CacheMap(), LoadWaits())
        self.router.update([A, B])
        self.estimates = Estimates(BrokerSettings())
        self.sees_all: list[bool] = []
        self.outcomes: list[tuple[str, str | None]] = []
        self.known_ended: list[tuple[str, float]] = []
        self.accounts = EdgeAccounts(
            self.router,
            self.estimates,
            self.sees_all.append,
            lambda model, now: self.known_ended.append((model, now)),
            lambda node_id, cause: self.outcomes.append((node_id, cause)),
        )

    def calls(self, now: float) -> float:
        """What the demand for bert counts, in calls."""
        return self.router.demand.rate("bert", now) * RoutingSettings().demand_seconds

    def load(self, now: float) -> float:
        self.router.tick(now)
        return sum(self.router.load(node.id) for node in (A, B))


def ended(known: bool, seconds: float = 0.02, node: str = "10.0.0.1:1", call: Call | None = BERT, ok: bool = True):
    return EndedCall(call, node, known, seconds, seconds if ok else None)


def test_a_routed_call_is_counted_when_it_is_routed_and_not_again() -> None:
    edge = Edge()
    edge.router.pick("bert", 1.0, "rest")
    before = edge.calls(1.0), edge.load(1.0)
    edge.accounts.ended([ended(known=False)], 1.0)
    assert (edge.calls(1.0), edge.load(1.0)) == before == (1.0, 1.0)


def test_a_known_call_is_counted_when_it_has_ended() -> None:
    edge = Edge()
    edge.accounts.ended([ended(known=True)] * 3, 1.0)
    assert edge.calls(1.0) == pytest.approx(3)


@pytest.mark.parametrize(("rate", "seconds"), [(50, 0.02), (200, 0.5), (10, 5.0)])
def test_a_steady_rate_of_known_calls_is_rate_times_duration_in_flight(rate: int, seconds: float) -> None:
    """Told ten times a second, as Envoy does; the mean over the last second."""
    edge, seen = Edge(), []
    for tenth in range(200):
        now = tenth / 10
        edge.accounts.ended([ended(True, seconds)] * (rate // 10), now)
        seen += [edge.load(now + step / 100) for step in range(10)]
    assert sum(seen[-1000:]) / 1000 == pytest.approx(rate * seconds, rel=0.06)


@pytest.mark.parametrize(("rate", "seconds"), [(50, 0.02), (200, 0.5), (10, 5.0)])
def test_a_steady_rate_of_routed_calls_is_so_too_once_their_durations_are_known(rate: int, seconds: float) -> None:
    edge, seen = Edge(), []
    edge.accounts.ended([ended(False, seconds)], 0.0)
    for number in range(20 * rate):
        now = 1.0 + number / rate
        edge.router.pick("bert", now, "rest")
        if number % rate == 0:
            edge.accounts.ended([ended(False, seconds)], now)
        seen.append(edge.load(now + 0.5 / rate))
    assert sum(seen[-rate:]) / rate == pytest.approx(rate * seconds, rel=0.06)


def test_a_call_stands_for_as_many_as_it_says() -> None:
    edge, told = Edge(), Edge()
    for number in range(100):
        edge.accounts.ended([ended(True, 2.0)] * 16, number / 10)
        told.accounts.ended([ended(True, 2.0)._replace(stands_for=16)], number / 10)
    assert told.calls(10.0) == pytest.approx(edge.calls(10.0))
    assert told.load(10.0) == pytest.approx(edge.load(10.0))


@pytest.mark.parametrize("seconds", [0.005, 0.08, 0.25])
def test_the_load_of_calls_that_are_told_of_by_chance_is_steady(seconds: float) -> None:
    """16 in flight, of which one in 16 is told of: what the load is taken for, over and over."""
    chance, edge, seen = Random(1), Edge(), []
    for tenth in range(1000):
        number = sum(chance.random() < 1 / 16 for _ in range(round(1.6 / seconds)))
        edge.accounts.ended([ended(True, seconds)._replace(stands_for=16)] * number, tenth / 10)
        seen += [edge.load(tenth / 10 + step / 100) for step in range(10)]
    assert mean(seen[1000:]) == pytest.approx(16, rel=0.15)
    assert stdev(seen[1000:]) < 8


def test_the_map_is_told_of_models_whose_known_calls_have_ended() -> None:
    edge = Edge()
    edge.accounts.ended([ended(True), ended(True), ended(False), ended(True, call=None)], 1.0)
    assert edge.known_ended == [("bert", 1.0)]


def test_nothing_stays_when_the_log_is_lost() -> None:
    edge = Edge()
    edge.accounts.ended([ended(True, 5.0)] * 100, 1.0)
    edge.router.pick("bert", 1.0, "rest")
    assert edge.load(2.0) == pytest.approx(101)
    assert edge.load(6.1) == pytest.approx(0.0, abs=1e-6)


def test_without_the_log_durations_are_soon_void_and_estimates_take_over() -> None:
    edge = Edge()
    edge.accounts.ended([ended(False, 5.0)], 0.0)
    edge.router.pick("bert", 31.0, "rest")
    assert edge.load(31.0) == pytest.approx(1.0)
    assert edge.load(32.0) < 0.01, "faded with call_seconds"


def test_known_answers_tell_the_estimates() -> None:
    edge = Edge()
    edge.accounts.ended([ended(True, 0.02)] * 20, 1.0)
    assert edge.estimates.of(Candidate("bert"), RESIDENT, 1.0).ms == pytest.approx(20, rel=0.06)


@pytest.mark.parametrize("other", [ended(False), ended(True, ok=False)])
def test_no_others_do(other: EndedCall) -> None:
    """Of a routed one nobody says whether it waited for a load, and a failed one is no answer."""
    edge = Edge()
    edge.accounts.ended([other] * 20, 1.0)
    assert edge.estimates.of(Candidate("bert"), RESIDENT, 1.0).ms == BrokerSettings().default_estimate_ms


@pytest.mark.parametrize(
    "other", [ended(True, call=None), ended(True, node="10.9.9.9:1"), ended(True, node="", seconds=0.0)]
)
def test_calls_without_a_model_and_of_nodes_that_left_do_no_harm(other: EndedCall) -> None:
    edge = Edge()
    edge.accounts.ended([other], 1.0)
    assert edge.load(1.0) <= 0.21


def test_the_demand_is_that_of_all_calls_once_the_log_has_told_for_long_enough() -> None:
    edge = Edge()
    edge.accounts.ended([ended(True)], 0.0)
    assert edge.sees_all == [], "no log is open"
    edge.accounts.logs(1, 100.0)
    edge.accounts.logs(2, 150.0)
    edge.accounts.ended([ended(True)], 189.0)
    assert edge.sees_all == [False]
    edge.accounts.ended([ended(True)], 190.0)
    assert edge.sees_all == [False, True]
    edge.accounts.logs(1, 200.0)
    assert edge.sees_all == [False, True], "one of two workers"
    edge.accounts.logs(0, 201.0)
    assert edge.sees_all == [False, True, False]
    edge.accounts.logs(1, 202.0)
    edge.accounts.ended([ended(True)], 203.0)
    assert not any(edge.sees_all[2:])


def test_what_became_of_calls_to_another_zone_is_told_where_it_is_clear() -> None:
    edge = Edge()
    calls = [ended(False)._replace(far="c", answered=answered) for answered in (True, False, None)]
    edge.accounts.ended([*calls, ended(False)], 1.0)
    assert edge.outcomes == [("c", None), ("c", "A call to it failed.")]
