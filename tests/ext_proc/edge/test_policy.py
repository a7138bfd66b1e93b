"""The edge's decisions: routed, renamed, held for a race, or let through where its Envoy is too old."""

import asyncio
import gzip
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.plan import Plan
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.contract import HOP_HEADER
from ext_proc.edge.held import HeldForFar, HeldRace
from ext_proc.edge.placing import Placing
from ext_proc.edge.policy import EdgePolicy, RunRace
from ext_proc.edge.sessions import Sessions
from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import HeaderMutation, Held, Hold, Respond, Route
from ext_proc.processing.request import BodyMode, Head, ReplyPart, Version, parse
from ext_proc.telemetry.unbrokered import Unbrokered
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call, InferenceProtocol
from ext_proc.wire.framing import frame, unframe
from ext_proc.wire.naming import name_call
from mesh.node import Node
from mesh.protos import tfs_pb2
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from tests.ext_proc.processing import envoy_says as envoy

AVAILABLE = Residency.AVAILABLE

HOP = HopMark("s" * 32)
GRPC = ("10.0.0.1:8500", "10.0.0.2:8500")
REST = ("10.0.0.1:8501", "10.0.0.2:8501")
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MODELS: dict[str, dict[str, Any]] = {
    "bert": {"limit_ms": 50, "backups": ["svm;est=5"], "labels": {"stable": 3}},
    "prod": {"alias": "plain;version=7"},
    "both": {"virtual": ["(svm;est=1 bayes;est=1);mix=avg"]},
    "copied": {"shadow": {"to": "svm", "share": 1.0}},
}


async def no_race(held: Held, plan: Plan, arrival: float) -> Respond:
    raise AssertionError("nothing was to be raced")


def edge(
    models: dict[str, dict[str, Any]] | None = None,
    nodes: int = 2,
    wall: Callable[[], float] = time.time,
    residency: str | None = None,
    race: RunRace = no_race,
    unbrokered: Unbrokered | None = None,
) -> EdgePolicy:
    router = Router(RoutingSettings(replicas=2), CacheMap(), LoadWaits())
    router.update(Node(f"node-{n}", grpc=GRPC[n], rest=REST[n], residency=residency) for n in range(nodes))
    known = MODELS if models is None else models
    settings = {name: ModelSettings.model_validate(model) for name, model in known.items()}
    return policy_over(router, ModelTable(BrokerSettings(), settings), race, unbrokered, wall)


def policy_over(
    router: Router,
    model_table: ModelTable,
    race: RunRace = no_race,
    unbrokered: Unbrokered | None = None,
    wall: Callable[[], float] = time.time,
    hints: ReplyHints | None = None,
) -> EdgePolicy:
    return EdgePolicy(
        Placing(router),
        Sessions(router).seat,
        race,
        model_table,
        HOP,
        hints or ReplyHints(router.cache_map, 10.0),
        (unbrokered or Unbrokered()).count,
        wall,
        body_limit=1 << 20,
    )


def rest(model: str, version: Version = (1, 40), mode: BodyMode | None = None, end: bool = False, **more: str) -> Head:
    return _head(f"/v1/models/{model}:predict", "application/json", version, mode, end, more)


def grpc(version: Version = (1, 40), mode: BodyMode | None = None, **more: str) -> Head:
    return _head(PREDICT, "application/grpc", version, mode, False, more)


def _head(path: str, kind: str, version: Version, mode: BodyMode | None, end: bool, more: dict[str, str]) -> Head:
    headers = {":method": "POST", ":path": path, ":authority": "x", "content-type": kind}
    headers |= {key.replace("_", "-"): value for key, value in more.items()}
    usual = BodyMode.NONE if version >= (1, 40) else BodyMode.FULL_DUPLEX
    return Head(headers, end, usual if mode is None else mode, version)


def named(head: Head, model: str = "") -> Call:
    call = name_call(head.headers | ({"x-tbms-model": model} if model else {}), 1 << 20)
    assert isinstance(call, Call)
    return call


def decided(policy: EdgePolicy, head: Head, model: str = "") -> Any:
    return policy.decide(head, named(head, model), 1.0)


def message(model: str) -> bytes:
    return frame(tfs_pb2.PredictRequest(model_spec=tfs_pb2.ModelSpec(name=model)).SerializeToString())


class TestPlainCalls:
    def test_go_to_the_nodes_of_their_protocol(self) -> None:
        policy = edge()
        over_rest, over_grpc = decided(policy, rest("plain")), decided(policy, grpc(), "plain")
        assert set(over_rest.nodes) == set(REST)
        assert set(over_grpc.nodes) == set(GRPC)
        assert over_rest.lease is None  # its end is not seen
        assert (over_rest.headers, over_rest.body) == ((), None)

    def test_without_a_node_they_are_unavailable(self) -> None:
        with pytest.raises(CallError, match="No model server") as refused:
            decided(edge(nodes=0), rest("plain"))
        assert refused.value.reason is Reason.UNAVAILABLE

    def test_a_header_that_does_not_parse_is_the_clients_fault(self) -> None:
        with pytest.raises(CallError, match="tloc") as refused:
            decided(edge(), rest("plain", tloc="soon"))
        assert refused.value.reason is Reason.INVALID


class TestNodesOfOurs:
    """A node that says what it holds has a server of its own, which would else read the body for the model's name."""

    def test_are_told_the_model_that_only_the_body_names(self) -> None:
        route = decided(edge(residency="10.0.0.1:9904"), grpc(), "plain/versions/7")
        assert route.headers == (("x-tbms-model", "plain/versions/7"),)

    def test_are_told_nothing_that_they_see_themselves(self) -> None:
        policy = edge(residency="10.0.0.1:9904")
        assert decided(policy, grpc(x_tbms_model="plain")).headers == ()
        assert decided(policy, rest("plain")).headers == ()

    def test_are_told_the_new_name_of_a_call_that_is_renamed(self) -> None:
        policy = edge(residency="10.0.0.1:9904")
        head = grpc()
        hold = decided(policy, head, "prod")
        route = asyncio.run(policy.resolve(Held(head, named(head, "prod"), (message("prod"),), hold.context)))
        assert route.headers == (("x-tbms-model", "plain/versions/7"),)

    def test_others_hear_nothing_of_it(self) -> None:
        assert decided(edge(), grpc(), "plain").headers == ()


class TestTerms:
    """What nodes are told of calls that are not raced; candidates carry theirs from the race."""

    MODELS: ClassVar[dict[str, dict[str, Any]]] = {
        **MODELS,
        "digits": {"cross_request": True, "cross_lag_ms": 5},
        "urgent": {"alias": "digits;version=2", "priority": 9},
    }

    def edge(self, **more: Any) -> EdgePolicy:
        return edge(self.MODELS, residency="10.0.0.1:9904", **more)

    def test_a_limit_that_cannot_be_kept_here_is_told_less_the_time_that_has_gone(self) -> None:
        policy = self.edge(wall=lambda: 1000.0)
        head = replace(grpc((1, 36), tloc="50;cross-lag=3;priority=1"), received=999.98)
        assert decided(policy, head, "plain").headers == (
            ("x-tbms-model", "plain"), ("x-tbms-call", "30;lag=3;priority=1"),
        )  # fmt: skip
        over_rest = decided(policy, rest("bert", (1, 38), BodyMode.NONE))
        assert over_rest.headers == (("x-tbms-call", "50"),), "a limit of the configuration is one, too"

    def test_a_model_of_the_configuration_shares_without_a_header(self) -> None:
        policy = self.edge()
        assert decided(policy, rest("digits")).headers == (("x-tbms-call", "none;lag=5;share"),)
        assert decided(policy, grpc(x_tbms_model="digits")).headers == (("x-tbms-call", "none;lag=5;share"),)

    def test_a_new_name_is_told_beside_them(self) -> None:
        policy = self.edge()
        assert decided(policy, rest("urgent")).headers == (
            (":path", "/v1/models/digits/versions/2:predict"), ("x-tbms-call", "none;lag=5;share;priority=9"),
        )  # fmt: skip
        head = grpc()
        hold = decided(policy, head, "urgent")
        route = asyncio.run(policy.resolve(Held(head, named(head, "urgent"), (message("urgent"),), hold.context)))
        assert route.headers == (
            ("x-tbms-model", "digits/versions/2"), ("x-tbms-call", "none;lag=5;share;priority=9"),
        )  # fmt: skip

    def test_there_is_nothing_to_tell_of_other_calls(self) -> None:
        policy = self.edge()
        for head, model in ((rest("plain"), ""), (grpc(x_tbms_model="plain", grpc_timeout="1S"), "")):
            assert decided(policy, head, model).headers == ()
        status = _head("/v1/models/digits", "", (1, 40), None, True, {})
        assert decided(policy, status).headers == ()

    def test_nodes_that_nobody_batches_at_hear_nothing(self) -> None:
        policy = edge(self.MODELS)
        assert decided(policy, rest("digits")).headers == ()
        assert decided(policy, grpc((1, 36), tloc="50"), "plain").headers == ()


class TestHopMark:
    def test_ours_is_routed_where_it_says_and_never_raced(self) -> None:
        head = rest("bert", x_tbms_hop=HOP.write(("10.9.9.9:1",)), tloc="50", backup="svm")
        assert decided(edge(), head) == Route(("10.9.9.9:1",), keeps=("x-tbms-call", "x-tbms-session"))

    def test_a_forged_one_has_no_effect(self) -> None:
        forged = HopMark("f" * 32).write(("10.9.9.9:1",))
        policy = edge()
        assert isinstance(decided(policy, rest("bert", x_tbms_hop=forged)), Hold)
        assert set(decided(policy, rest("plain", x_tbms_hop=forged)).nodes) == set(REST)
        assert decided(policy, rest("plain", x_tbms_hop=forged)).keeps == ()
        assert HOP_HEADER == "x-tbms-hop"


class TestRaces:
    def test_a_call_for_a_model_with_backups_is_held_with_its_body(self) -> None:
        hold = decided(edge(), rest("bert"))
        assert isinstance(hold, Hold)
        assert hold.collect
        assert isinstance(hold.context, HeldRace)
        assert hold.context.arrival == 1.0
        assert [one.model for one in hold.context.plan.candidates] == ["bert", "svm"]

    @pytest.mark.parametrize(("received", "arrival"), [(999.75, 0.75), (1000.0, 1.0), (1007.0, 1.0)])
    def test_the_clock_starts_when_envoy_got_the_call(self, received: float, arrival: float) -> None:
        """A clock that was set back in between tells nothing."""
        hold = decided(edge(wall=lambda: 1000.0), replace(rest("bert"), received=received))
        assert hold.context.arrival == arrival

    def test_a_header_asks_for_one(self) -> None:
        hold = decided(edge(), grpc(tloc="30", backup="svm;est=5"), "plain")
        assert (hold.context.plan.limit_ms, hold.collect) == (30, True)

    def test_a_grpc_deadline_shortens_the_limit(self) -> None:
        assert decided(edge(), grpc(grpc_timeout="20m"), "bert").context.plan.limit_ms == 18

    def test_a_call_that_is_only_copied_is_held_too(self) -> None:
        hold = decided(edge(), rest("copied"))
        assert (hold.context.plan.races, [one.model for one in hold.context.plan.shadows]) == (False, ["svm"])

    def test_held_calls_are_raced(self) -> None:
        asked: list[tuple[Plan, float]] = []
        answer = Respond(200, (), b"")

        async def race(held: Held, plan: Plan, arrival: float) -> Respond:
            asked.append((plan, arrival))
            return answer

        policy = edge(race=race)
        head = rest("bert")
        hold = decided(policy, head)
        assert asyncio.run(policy.resolve(Held(head, named(head), (b"{}",), hold.context))) is answer
        assert asked == [(hold.context.plan, 1.0)]

    def test_a_call_without_a_body_is_not_raced(self) -> None:
        policy = edge(unbrokered=(unbrokered := Unbrokered()))
        assert set(decided(policy, rest("bert", end=True)).nodes) == set(REST)
        assert total(unbrokered) == 0


class TestNames:
    def test_a_rest_call_is_renamed_by_its_path(self) -> None:
        route = decided(edge(), rest("prod"))
        assert route.headers == ((":path", "/v1/models/plain/versions/7:predict"),)
        assert route.body is None

    def test_a_grpc_call_is_renamed_in_its_body(self) -> None:
        policy = edge()
        head = grpc()
        hold = decided(policy, head, "prod")
        assert hold.collect
        route = asyncio.run(policy.resolve(Held(head, named(head, "prod"), (message("prod"),), hold.context)))
        spec = tfs_pb2.PredictRequest.FromString(unframe(list(map(bytes, route.body)), "identity", 1000)).model_spec
        assert (spec.name, spec.version.value) == ("plain", 7)
        assert route.headers == ()
        assert set(route.nodes) == set(GRPC)

    def test_a_held_grpc_call_is_unpacked_once_for_all_that_it_asks(self) -> None:
        seen: list[Held] = []

        async def run(held: Held, plan: Plan, arrival: float) -> Respond:
            seen.append(held)
            return Respond(200, (), b"")

        policy = edge(race=run)
        head, plain = grpc(grpc_encoding="gzip"), message("bert")[5:]
        packed = gzip.compress(plain)
        body = b"\1" + len(packed).to_bytes(4, "big") + packed
        hold = decided(policy, head, "bert")
        asyncio.run(policy.resolve(Held(head, named(head, "bert"), (body[:3], body[3:]), hold.context)))
        assert [held.message for held in seen] == [plain]

    @pytest.mark.parametrize(
        ("flag", "encoding", "reason"), [(1, "br", Reason.UNSUPPORTED), (1, "gzip", Reason.INVALID)]
    )
    def test_a_held_grpc_call_that_cannot_be_unpacked(self, flag: int, encoding: str, reason: Reason) -> None:
        policy = edge()
        head = grpc(grpc_encoding=encoding)
        hold = decided(policy, head, "bert")
        held = Held(head, named(head, "bert"), (bytes((flag, 0, 0, 0, 5)) + b"hello",), hold.context)
        with pytest.raises(CallError) as refused:
            asyncio.run(policy.resolve(held))
        assert refused.value.reason is reason

    def test_the_model_header_follows_the_body(self) -> None:
        policy = edge()
        head = grpc(x_tbms_model="prod")
        hold = decided(policy, head)
        route = asyncio.run(policy.resolve(Held(head, named(head), (message("prod"),), hold.context)))
        assert route.headers == (("x-tbms-model", "plain/versions/7"),)

    def test_a_label_is_a_version(self) -> None:
        head = _head("/v1/models/bert/labels/stable/metadata", "", (1, 40), None, True, {})
        assert decided(edge(), head).headers == ((":path", "/v1/models/bert/versions/3/metadata"),)

    def test_the_same_key_always_gets_the_same_side(self) -> None:
        policy = edge({"trial": {"split": ["one;w=1", "two;w=1"]}})

        def side(key: str) -> str:
            return decided(policy, rest("trial", tbms_key=key)).headers[0][1]

        sides = {key: side(key) for key in map(str, range(40))}
        assert set(sides.values()) == {"/v1/models/one:predict", "/v1/models/two:predict"}
        assert all(side(key) == value for key, value in sides.items())
        without = {decided(policy, rest("trial")).headers[0][1] for _ in range(40)}
        assert len(without) == 2


def total(unbrokered: Unbrokered) -> float:
    """Calls that were not raced, by the metric."""
    return sum(sample.value for metric in unbrokered.collect() for sample in metric.samples
               if sample.name == "tbms_calls_unbrokered_total")  # fmt: skip


class TestOldEnvoys:
    def test_a_version_that_no_envoy_has_is_no_label(self) -> None:
        unbrokered = Unbrokered()
        for version in ((0, 77), (1, 4321), (1, 36)):
            unbrokered.count(version, InferenceProtocol.TFS_GRPC)
        told = {one.labels["envoy"]: one.value for metric in unbrokered.collect() for one in metric.samples}
        assert told == {"(other)": 2, "1.36": 1}

    def test_grpc_races_are_off_on_1_36(self, caplog: pytest.LogCaptureFixture) -> None:
        policy = edge(unbrokered=(unbrokered := Unbrokered()))
        for _ in range(3):
            route = decided(policy, grpc((1, 36)), "bert")
            assert (set(route.nodes), route.body) == (set(GRPC), None)
        assert total(unbrokered) == 3
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1, "said once"
        assert "Envoy 1.36 cannot hold gRPC calls" in warnings[0].cause
        (sample,) = [one for metric in unbrokered.collect() for one in metric.samples if one.name.endswith("_total")]
        assert sample.labels == {"envoy": "1.36", "protocol": "tfs-grpc"}

    def test_rest_calls_are_raced_on_1_36_where_they_are_buffered(self) -> None:
        policy = edge(unbrokered=(unbrokered := Unbrokered()))
        assert isinstance(decided(policy, rest("bert", (1, 36), BodyMode.BUFFERED)), Hold)
        assert total(unbrokered) == 0

    def test_a_call_whose_body_cannot_come_goes_on(self) -> None:
        policy = edge(unbrokered=(unbrokered := Unbrokered()))
        assert set(decided(policy, rest("bert", (1, 38), BodyMode.NONE)).nodes) == set(REST)
        assert isinstance(decided(policy, rest("bert", (1, 38), BodyMode.FULL_DUPLEX)), Hold)
        assert total(unbrokered) == 1

    def test_a_name_that_is_no_model_is_still_led_to_one(self) -> None:
        """A virtual model goes to its primary; the first member, where that is a mix."""
        policy = edge(unbrokered=(unbrokered := Unbrokered()))
        head = grpc((1, 36))
        hold = decided(policy, head, "both")
        assert not hold.context.plan.races
        route = asyncio.run(policy.resolve(Held(head, named(head, "both"), (message("both"),), hold.context)))
        spec = tfs_pb2.PredictRequest.FromString(unframe(list(map(bytes, route.body)), "identity", 1000)).model_spec
        assert spec.name == "svm"
        over_rest = decided(policy, rest("both", (1, 38), BodyMode.NONE))
        assert over_rest.headers == ((":path", "/v1/models/svm:predict"),)
        assert total(unbrokered) == 2

    def test_each_version_is_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        policy = edge()
        decided(policy, grpc((1, 36)), "bert")
        decided(policy, rest("bert", (1, 38), BodyMode.NONE))
        decided(policy, rest("bert", (1, 38), BodyMode.NONE))
        assert [record.envoy for record in caplog.records] == ["1.36", "1.38"]


# Nodes that are not heard.


def _reply(upstream: str, word: str | None = "available") -> ReplyPart:
    fields = {} if word is None else {"x_tbms_residency": word}
    return ReplyPart(parse(envoy.response_headers(upstream=upstream, end=False, **fields)))


def test_an_unheard_node_is_asked_and_its_answer_kept_back() -> None:
    router = Router(RoutingSettings(replicas=2), CacheMap(), LoadWaits())
    nodes = [Node(f"node-{n}", grpc=GRPC[n], rest=REST[n]) for n in range(2)]
    router.update(nodes)
    hints = ReplyHints(router.cache_map, 10.0)
    ours = policy_over(router, ModelTable(BrokerSettings(), {}), hints=hints)
    head = rest("plain")
    route = ours.decide(head, named(head), 0.0)
    assert isinstance(route, Route)
    assert not route.wants_residency
    assert ours.replied(route, head, named(head), _reply(route.nodes[0]), 0.0) is None
    for node in nodes:
        hints.silence(node)
    route = ours.decide(head, named(head), 0.0)
    assert isinstance(route, Route)
    assert route.wants_residency == "plain"
    told: dict[str, dict[str, Residency]] = {
        "10.0.0.9:8501": {},
        REST[0]: {"node-0": AVAILABLE},
        REST[1]: {"node-0": AVAILABLE, "node-1": AVAILABLE},
    }
    for upstream, known in told.items():  # a stranger says nothing; a retry may have gone to another node
        amend = ours.replied(route, head, named(head), _reply(upstream), 0.0)
        assert amend == HeaderMutation(remove=("x-tbms-residency",))
        assert router.cache_map.holders("plain") == known
    for silly in ("", "?1", "available" * 100, "\x00"):
        ours.replied(route, head, named(head), _reply(REST[0], silly), 0.0)
    ours.replied(route, head, named(head), _reply(REST[0], None), 0.0)  # a node without tbms
    assert router.cache_map.holders("plain") == {"node-0": AVAILABLE, "node-1": AVAILABLE}


def test_a_candidates_call_asks_where_it_says_so() -> None:
    ours = edge()
    ours._hints.silence(Node("node-0", grpc=GRPC[0], rest=REST[0]))
    for asks, about in (({"x_tbms_residency": "?1"}, "plain"), ({}, "")):
        hop = rest("plain", x_tbms_hop=HOP.write((REST[0], REST[1])), **asks)
        route = ours.decide(hop, named(hop), 0.0)
        assert isinstance(route, Route)
        assert (route.wants_residency, route.nodes) == (about, (REST[0], REST[1]))


class TestCallsToAnotherZone:
    """One node here, which is dead, and one there."""

    MOST = 100

    def edge(self, send_far: RunRace | None = no_race) -> EdgePolicy:
        router = Router(RoutingSettings(replicas=1, zone="east"), CacheMap(), LoadWaits())
        far = Node("node-c", zone="west", reached_by="header", speaks=frozenset({"grpc", "rest"}))
        router.update([Node("node-0", grpc=GRPC[0], rest=REST[0], zone="east"), far])
        router.set_alive("node-0", False)
        settings = {name: ModelSettings.model_validate(model) for name, model in MODELS.items()}
        policy = policy_over(router, ModelTable(BrokerSettings(), settings))
        policy._send_far, policy._failover_bytes = send_far, self.MOST
        return policy

    def test_wait_for_their_body_where_the_server_can_send_them(self) -> None:
        policy = self.edge()
        for head, model in ((rest("plain"), ""), (grpc(), "plain"), (rest("prod"), "")):
            hold = decided(policy, head, model)
            assert isinstance(hold, Hold)
            assert (hold.collect, hold.most) == (True, self.MOST)
            assert hold.otherwise is not None
            assert hold.otherwise.nodes == ("@node-c",)
            assert isinstance(hold.context, HeldForFar)

    @pytest.mark.parametrize(
        ("head", "model"),
        [
            (rest("plain", version=(1, 38), mode=BodyMode.NONE), ""),
            (rest("plain", end=True), ""),
            (grpc(version=(1, 36)), "plain"),
            (rest("plain", tbms_session="s"), ""),
        ],
        ids=["no body comes", "it has none", "no answer can be given", "one node only may get it"],
    )
    def test_go_on_by_envoy_where_it_cannot(self, head: Head, model: str) -> None:
        route = decided(self.edge(), head, model)
        assert isinstance(route, Route)
        assert route.nodes == ("@node-c",)

    def test_go_on_by_envoy_where_that_is_configured(self) -> None:
        assert decided(self.edge(send_far=None), rest("plain")).nodes == ("@node-c",)

    def test_are_sent_with_what_their_caller_leaves_of_its_time(self) -> None:
        seen: list[tuple[Held, Plan]] = []

        async def send(held: Held, plan: Plan, arrival: float) -> Respond:
            seen.append((held, plan))
            return Respond(200, (), b"")

        policy = self.edge(send)
        for head, limit_ms in ((grpc(grpc_timeout="250m"), 250.0), (grpc(), math.inf)):
            hold = decided(policy, head, "plain")
            held = Held(head, named(head, "plain"), (message("plain"),), hold.context)
            assert asyncio.run(policy.resolve(held)) == Respond(200, (), b"")
            assert (seen[-1][1].limit_ms, seen[-1][1].model, seen[-1][1].races) == (limit_ms, "plain", False)
            assert seen[-1][0].message is not None, "unpacked"

    def test_candidates_of_ours_are_led_there(self) -> None:
        head = rest("plain", **{HOP_HEADER: HOP.write(("@node-c",))})
        assert decided(self.edge(), head).nodes == ("@node-c",)
