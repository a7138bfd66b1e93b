"""How calls spread over the nodes that hold their model: the processor, the edge and the router together, no Envoy.

Time is the test's own: a call in flight is the moment at which its node will have answered.
"""

import heapq
import math
from collections import Counter

import pytest

from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.settings import BrokerSettings
from ext_proc.edge.placing import Placing
from ext_proc.edge.policy import EdgePolicy
from ext_proc.edge.sessions import Sessions
from ext_proc.server.processor import ExtProcService, ExtProcStream
from ext_proc.telemetry.metrics import Metrics
from ext_proc.telemetry.refusals import Refusals
from ext_proc.telemetry.unbrokered import Unbrokered
from ext_proc.upstream.hop_mark import HopMark
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from tests.ext_proc.processing import envoy_says as envoy

PREDICT = "/v1/models/resnet:predict"


class Stream:
    """A stream of Envoy's, and which node the reply on it names first."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.node = ""

    def send(self, message: bytes) -> None:
        (reply,) = envoy.read([message])
        self.node = (reply.nodes or "").split(",")[0]

    def finish(self, code: int = 0, details: str = "") -> None:
        assert code == 0, details


class Fleet:
    """Four nodes that hold every model, behind the server that Envoy would ask."""

    def __init__(self, declared: bool, follows_replies: bool, **routing: float) -> None:
        self.now = 1000.0
        settings = RoutingSettings(**({"replicas": 4} | routing))  # type: ignore[arg-type]
        self.router = Router(settings, CacheMap(), LoadWaits())
        models = frozenset({"resnet"} if declared else ())
        self.router.update(Node(f"n{n}", grpc=None, rest=f"10.0.0.{n}:8501", models=models) for n in range(4))
        edge = EdgePolicy(
            Placing(self.router),
            Sessions(self.router).seat,
            None,  # type: ignore[arg-type]  # no call is raced
            ModelTable(BrokerSettings(), {}),
            HopMark("s" * 32),
            ReplyHints(self.router.cache_map, 10.0),
            Unbrokered().count,
            lambda: self.now,
            body_limit=1 << 20,
            follows_replies=follows_replies,
        )
        self._service = ExtProcService(edge, Metrics(), Refusals(), None, lambda: self.now)  # type: ignore[arg-type]  # none is held
        self._sees_ends = follows_replies

    def call(self) -> tuple[ExtProcStream, str]:
        """One plain call: its session, and the node that it goes to. Envoy ends the stream when it has heard enough."""
        session = self._service.open(stream := Stream())
        session.message(envoy.rest(PREDICT))
        if not self._sees_ends:
            session.half_closed()
        return session, stream.node

    def over(self, session: ExtProcStream) -> None:
        if self._sees_ends:
            session.gone()

    def closed_loop(self, in_flight: int, seconds: float, calls: int) -> Counter[str]:
        """So many calls, always as many of them in flight; each takes that long."""
        count: Counter[str] = Counter()
        running: list[tuple[float, int, ExtProcStream]] = []
        for number in range(calls):
            if len(running) == in_flight:
                self.now, _, session = heapq.heappop(running)
                self.over(session)
            self.now += 1e-4
            session, node = self.call()
            count[node] += 1
            heapq.heappush(running, (self.now + seconds, number, session))
        return count


@pytest.mark.parametrize("follows_replies", [False, True])
@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(("in_flight", "seconds"), [(16, 0.1), (48, 0.02), (16, 0.13), (24, 0.05), (200, 0.1)])
def test_every_holder_gets_its_share(in_flight: int, seconds: float, declared: bool, follows_replies: bool) -> None:
    count = Fleet(declared, follows_replies).closed_loop(in_flight, seconds, 640)
    assert count.total() == 640
    for node in range(4):
        assert 0.15 * 640 <= count[f"10.0.0.{node}:8501"] <= 0.35 * 640, count


@pytest.mark.parametrize("follows_replies", [False, True])
def test_a_rate_over_the_bound_reaches_further_nodes(follows_replies: bool) -> None:
    """Rate x duration is 200 calls, and no node takes more than the factor times its share of them."""
    fleet = Fleet(True, follows_replies, replicas=1, call_seconds=0.1)
    running: list[tuple[float, int, ExtProcStream]] = []
    count: Counter[str] = Counter()
    for number in range(4000):
        fleet.now += 1 / 2000
        while running and running[0][0] <= fleet.now:
            fleet.over(heapq.heappop(running)[2])
        session, node = fleet.call()
        count[node] += 1
        heapq.heappush(running, (fleet.now + 0.1, number, session))
    assert len(count) == 4
    assert max(count.values()) <= math.ceil(1.3 * 1000), count


def test_at_low_load_calls_stay_together() -> None:
    assert len(Fleet(True, False).closed_loop(1, 0.1, 200)) == 1


def test_a_call_whose_end_is_seen_counts_until_then() -> None:
    fleet = Fleet(True, True)
    session, _ = fleet.call()
    fleet.now += 3600
    fleet.router.expected_wait("resnet", fleet.now, "rest")
    assert sum(fleet.router.load(f"n{n}") for n in range(4)) == pytest.approx(1.0)
    session.gone()
    assert sum(fleet.router.load(f"n{n}") for n in range(4)) == pytest.approx(0.0)
