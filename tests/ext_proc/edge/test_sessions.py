"""Calls of one session at an edge: bound to a node and to what the first was made to mean, and to no other."""

import asyncio
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.plan import Plan
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.edge.held import HeldRace
from ext_proc.edge.policy import EdgePolicy, RunRace
from ext_proc.edge.sessions import Sessions, session_of_header
from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Held, Hold, Respond, Route
from ext_proc.processing.request import BodyMode, Head
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.framing import frame, unframe
from ext_proc.wire.naming import name_call
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from mesh.session_claim import SessionClaim, read_claim
from tests.ext_proc.edge.test_policy import HOP, no_race, policy_over

INFER = "/inference.GRPCInferenceService/ModelInfer"
NODES = 4
IDLE = 60
MODELS: dict[str, dict[str, Any]] = {
    "seq": {"stateful": True},
    "other": {"stateful": True},
    "prod": {"alias": "seq;version=3"},
    "trial": {"split": ["seq;w=1", "other;w=1"]},
    "timed": {"stateful": True, "limit_ms": 500},
    "raced": {"limit_ms": 50, "backups": ["svm;est=5"], "shadow": {"to": "svm"}},
    "both": {"virtual": ["(svm;est=1 bayes;est=1);mix=avg"]},
    "ranked": {"virtual": ["seq", "svm;est=5"]},
}


def endpoint(number: int, port: int) -> str:
    return f"10.0.0.{number}:{port}"


class Edge:
    """An edge before four nodes that tell that they hold every model."""

    def __init__(
        self, models: dict[str, dict[str, Any]] | None = None, race: RunRace = no_race, **routing: float
    ) -> None:
        self.router = Router(RoutingSettings(**routing), CacheMap(), LoadWaits())  # type: ignore[arg-type]
        nodes = [Node(f"n{n}", endpoint(n, 8500), endpoint(n, 8501), residency=endpoint(n, 1)) for n in range(NODES)]
        self.router.update(nodes)
        self.held = dict.fromkeys(("seq", "other", "svm", "plain", "timed", "raced"), Residency.AVAILABLE)
        for node in nodes:
            self.router.cache_map.snapshot(node.id, self.held)
        self.policy: EdgePolicy = policy_over(self.router, self.table(models), race)
        self.now = 100.0

    @staticmethod
    def table(models: dict[str, dict[str, Any]] | None = None) -> ModelTable:
        known = MODELS if models is None else models
        settings = {name: ModelSettings.model_validate(model) for name, model in known.items()}
        return ModelTable(BrokerSettings(), settings)

    @property
    def sessions(self) -> Sessions:
        sessions = self.policy._seat_of.__self__  # type: ignore[attr-defined]
        assert isinstance(sessions, Sessions)
        return sessions

    def counts(self) -> dict[str, int]:
        return {name: count for name, count in asdict(self.sessions.counts).items() if count}

    def decide(self, head: Head, body: bytes = b"") -> Any:
        """What becomes of a call, of which the body comes if it is wanted."""
        found = name_call({**head.headers, "x-tbms-model": head.headers.get("model", "seq")}, 1 << 20)
        assert isinstance(found, Call)
        decision = self.policy.decide(head, found, self.now)
        if isinstance(decision, Hold) and body:
            assert decision.collect
            return asyncio.run(self.policy.resolve(Held(head, found, (body,), decision.context)))
        return decision

    def header(self, session: str, model: str = "plain", **more: str) -> Any:
        """A REST call with the header."""
        return self.decide(rest(model, tbms_session=session, **more))

    def step(self, identity: int | str, model: str = "seq", start: bool = False, end: bool = False, **more: str) -> Any:
        """A REST request of a sequence."""
        parameters = {"sequence_id": identity, "sequence_start": start, "sequence_end": end}
        return self.decide(rest(model, **more), json.dumps({"inputs": [], "parameters": parameters}).encode())

    def step_over_grpc(self, identity: int | str, model: str = "seq", **flags: bool) -> Any:
        message = pb.ModelInferRequest(model_name=model)
        kind = "string_param" if isinstance(identity, str) else "int64_param"
        message.parameters["sequence_id"].CopyFrom(pb.InferParameter(**{kind: identity}))
        for name, value in flags.items():
            message.parameters[f"sequence_{name}"].bool_param = value
        return self.decide(grpc(model), frame(message.SerializeToString()))


def rest(model: str, end: bool = False, **more: str) -> Head:
    headers = {":method": "POST", ":path": f"/v2/models/{model}/infer", ":authority": "x"}
    headers |= {key.replace("_", "-"): value for key, value in more.items()}
    return Head(headers, end, BodyMode.NONE)


def grpc(model: str, **more: str) -> Head:
    headers = {":method": "POST", ":path": INFER, ":authority": "x", "content-type": "application/grpc", "model": model}
    headers |= {key.replace("_", "-"): value for key, value in more.items()}
    return Head(headers, False, BodyMode.NONE)


def node_of(route: Any) -> str:
    """The one node of a route, whatever the protocol."""
    assert isinstance(route, Route)
    (only,) = route.nodes
    return only.partition(":")[0]


def claim_of(route: Route) -> SessionClaim:
    claim = read_claim(dict(route.headers)["x-tbms-session"])
    assert claim is not None
    return claim


class TestTheHeader:
    def test_binds_calls_of_any_model_to_one_node(self) -> None:
        edge = Edge()
        homes = {name: node_of(edge.header(name)) for name in map(str, range(40))}
        assert len(set(homes.values())) == NODES
        for name, home in homes.items():
            for _ in range(3):
                assert node_of(edge.header(name)) == home
            assert node_of(edge.decide(grpc("plain", tbms_session=name))) == home
            assert isinstance(edge.header(name, "svm"), Route)
        assert len(edge.sessions) == 80, "sessions of another model are others"

    def test_is_the_same_whatever_kind_of_item_it_is(self) -> None:
        edge = Edge()
        first = edge.header("7")
        assert [claim_of(edge.header(text)).key for text in ('"7"', " 7 ", "7;end=?0")] == [claim_of(first).key] * 3

    def test_tells_the_node_of_the_session_and_envoy_to_ask_no_other(self) -> None:
        edge = Edge()
        route = edge.header("chat-9")
        assert dict(route.headers)["x-envoy-max-retries"] == "0"
        assert claim_of(route).idle_seconds == IDLE
        assert not claim_of(route).last
        assert claim_of(edge.header("chat-9;end")).last
        assert edge.counts() == {"opened": 1, "ended": 1}

    def test_tells_a_model_server_without_tbms_nothing(self) -> None:
        edge = Edge()
        edge.router.update([Node("bare", endpoint(1, 8500), endpoint(1, 8501))])
        for decision in (edge.header("a"), edge.step(1), edge.decide(grpc("plain", tbms_session="a"))):
            assert decision.headers == (("x-envoy-max-retries", "0"),)

    @pytest.mark.parametrize(
        "text",
        ["", "(a b)", "a, b", "1.5", "?1", ":YQ==:", '"open', "a;end=2", "a;idle=3", '"' + "x" * 257 + '"', '""'],
    )
    def test_that_cannot_be_read_is_the_clients_fault(self, text: str) -> None:
        with pytest.raises(CallError, match="Header tbms-session: ") as refused:
            Edge().header(text)
        assert refused.value.reason is Reason.INVALID

    def test_is_bound_before_the_body_of_a_stateful_model_is_read(self) -> None:
        edge = Edge()
        assert isinstance(edge.header("chat-9", "seq"), Route)
        assert node_of(edge.decide(rest("seq", tbms_session="a"), b"{}")) == node_of(edge.header("a", "seq"))

    def test_binds_streams_too(self) -> None:
        edge = Edge()
        path = "/inference.GRPCInferenceService/ModelStreamInfer"
        head = grpc("seq", tbms_session="a")
        stream = Head({**head.headers, ":path": path}, False, BodyMode.NONE)
        assert node_of(edge.decide(stream)) == node_of(edge.decide(head))

    def test_two_edges_agree(self) -> None:
        one, other = Edge(), Edge(load_step=50.0)
        for name in map(str, range(20)):
            assert node_of(one.header(name)) == node_of(other.header(name))


class TestSequences:
    @pytest.mark.parametrize("identity", [7, "7", "chat"])
    def test_keep_their_node_over_both_protocols(self, identity: int | str) -> None:
        edge = Edge()
        first = edge.step(identity, start=True)
        assert node_of(edge.step_over_grpc(identity)) == node_of(first)
        assert claim_of(edge.step_over_grpc(identity, end=True)) == SessionClaim(claim_of(first).key, IDLE, last=True)
        assert edge.counts() == {"opened": 1, "ended": 1}

    def test_an_integer_and_a_text_are_two(self) -> None:
        edge = Edge()
        assert claim_of(edge.step(7)).key != claim_of(edge.step("7")).key

    @pytest.mark.parametrize("identity", [0, "", 1.5, None])
    def test_a_call_of_none_fares_as_any_other(self, identity: Any) -> None:
        edge = Edge(replicas=2, retries=2)
        route = edge.step(identity, start=True)
        assert len(route.nodes) == NODES
        assert route.headers == ()
        assert not edge.counts()

    def test_only_bodies_of_stateful_models_are_read(self) -> None:
        edge = Edge()
        assert isinstance(edge.decide(rest("plain")), Route)
        assert isinstance(edge.decide(rest("seq")), Hold)
        assert isinstance(edge.decide(rest("seq", end=True)), Route), "there is none"
        metadata = Call(InferenceProtocol.V2_REST, Verb.METADATA, "seq")
        assert isinstance(edge.policy.decide(rest("seq"), metadata, 1.0), Route)

    def test_a_body_that_is_no_request_is_left_to_the_model_server(self) -> None:
        assert len(Edge().decide(rest("seq"), b"no JSON").nodes) > 1

    def test_a_large_body_is_read_beside_the_loop(self) -> None:
        edge = Edge()
        text = json.dumps({"inputs": [[0.5] * 100_000], "parameters": {"sequence_id": 7}}).encode()
        assert node_of(edge.decide(rest("seq"), text)) == node_of(edge.step(7))


class TestTheNodeOfASession:
    def test_stays_whatever_joins_and_whoever_is_busy(self) -> None:
        edge = Edge()
        homes = {n: node_of(edge.step(n, start=True)) for n in range(1, 30)}
        for _ in range(500):
            edge.decide(rest("plain"))
        edge.router.update([*edge.router.nodes, Node("n9", endpoint(9, 8500), endpoint(9, 8501))])
        for node in edge.router.nodes[:2]:
            edge.router.cache_map.change(node.id, "seq", Residency.DRAINING)
        edge.router.set_spread("seq", 1)
        assert {n: node_of(edge.step(n)) for n in homes} == homes

    def test_stays_while_it_leaves_and_a_sequence_that_begins_anew_goes_elsewhere(self) -> None:
        edge = Edge()
        homes = {n: node_of(edge.step(n, start=True)) for n in range(1, 30)}
        edge.router.cache_map.leave("n0")
        assert {n: node_of(edge.step(n)) for n in homes} == homes
        again = {n: node_of(edge.step(n, start=True)) for n in homes}
        assert {n for n in homes if again[n] != homes[n]} == {n for n in homes if homes[n] == "10.0.0.0"}
        assert "10.0.0.0" not in again.values()

    def test_that_died_has_lost_it(self) -> None:
        edge = Edge()
        homes = {n: node_of(edge.step(n, start=True)) for n in range(1, 30)}
        edge.router.set_alive("n0", False)
        mine = [n for n, home in homes.items() if home == "10.0.0.0"]
        moved = {n: node_of(edge.step(n)) for n in mine}
        assert "10.0.0.0" not in moved.values()
        assert edge.counts() == {"opened": len(homes) + len(mine), "lost": len(mine)}
        edge.router.set_alive("n0", True)
        assert {n: node_of(edge.step(n)) for n in mine} == moved, "it does not move back"

    def test_that_is_gone_has_lost_it_and_without_a_node_there_is_none(self) -> None:
        edge = Edge()
        home = node_of(edge.step(1, start=True))
        edge.router.update([node for node in edge.router.nodes if not (node.rest or "").startswith(home)])
        assert node_of(edge.step(1)) != home
        edge.router.update(())
        with pytest.raises(CallError, match="No model server is known") as refused:
            edge.step(1)
        assert refused.value.reason is Reason.UNAVAILABLE

    def test_is_forgotten_when_the_session_is_idle(self) -> None:
        edge = Edge()
        edge.step(1, start=True)
        edge.now += IDLE - 1
        edge.step(1)
        edge.now += IDLE
        edge.step(2)
        assert edge.counts() == {"opened": 2, "idle": 1}

    def test_that_does_not_speak_the_protocol_cannot_be_asked(self) -> None:
        edge = Edge()
        edge.router.update([Node("only", grpc=None, rest=endpoint(1, 8501))])
        edge.step(1, start=True)
        with pytest.raises(CallError, match="does not speak grpc"):
            edge.step_over_grpc(1)


class TestNames:
    def test_an_alias_of_a_stateful_model_is_one(self) -> None:
        edge = Edge()
        route = edge.step(1, "prod", start=True)
        assert dict(route.headers)[":path"] == "/v2/models/seq/versions/3/infer"
        over_grpc = edge.step_over_grpc(1, "prod")
        request = pb.ModelInferRequest.FromString(unframe(list(map(bytes, over_grpc.body)), "identity", 1000))
        assert (request.model_name, request.model_version) == ("seq", "3")
        assert node_of(over_grpc) == node_of(route)

    def test_a_sequence_keeps_its_side_of_a_split_when_the_configuration_changes(self) -> None:
        edge = Edge()
        sides = {n: dict(edge.step(n, "trial", start=True).headers)[":path"] for n in range(1, 40)}
        assert set(sides.values()) == {"/v2/models/seq/infer", "/v2/models/other/infer"}
        assert {n: dict(edge.step(n, "trial").headers)[":path"] for n in sides} == sides
        assert {n: dict(Edge().step(n, "trial").headers)[":path"] for n in sides} == sides, "on another edge"
        edge.policy.model_table = edge.table({**MODELS, "trial": {"alias": "seq"}})
        assert {n: dict(edge.step(n, "trial").headers)[":path"] for n in sides} == sides
        edge.policy.model_table = edge.table({"trial": {"stateful": True}})
        assert {n: dict(edge.step(n, "trial").headers)[":path"] for n in sides} == sides
        fresh = edge.step(1, "trial", start=True, end=True)
        assert dict(fresh.headers)[":path"] == sides[1], "a sequence that begins anew where it is welcome goes on"
        assert ":path" not in dict(edge.step(1, "trial", start=True).headers)

    def test_a_key_of_the_client_decides_the_side_all_the_same(self) -> None:
        edge = Edge()
        paths = {dict(edge.step(n, "trial", tbms_key="me").headers)[":path"] for n in range(1, 20)}
        assert len(paths) == 1

    def test_the_names_that_are_stateful(self) -> None:
        table = Edge.table()
        assert table.stateful == {"seq", "other", "prod", "trial", "timed", "ranked"}
        assert table.stateful < set(table.names)

    def test_a_split_of_versions_of_itself(self) -> None:
        table = Edge.table({"m": {"split": ["m;version=1", "m;version=2"]}, "n": {"alias": "m"}})
        assert table.stateful == frozenset()

    @pytest.mark.parametrize("more", [{"backups": ["svm"]}, {"shadow": {"to": "svm"}}, {"virtual": ["svm"]}])
    def test_a_stateful_model_has_no_others_beside_it(self, more: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"a stateful one has no {next(iter(more))}"):
            ModelSettings.model_validate({"stateful": True, **more})


class TestLimits:
    """A limit holds, with one candidate."""

    @staticmethod
    def plan_of(hold: Any) -> Plan:
        assert isinstance(hold, Hold)
        assert isinstance(hold.context, HeldRace)
        return hold.context.plan

    def test_of_a_header_is_a_race_of_one(self) -> None:
        edge = Edge()
        plan = self.plan_of(edge.header("a", tloc="50;est=10", backup="svm;est=5"))
        assert [(one.model, one.estimate_ms) for one in plan.candidates] == [("plain", 10)]  # type: ignore[union-attr]
        assert (plan.races, plan.limit_ms, plan.shadows) == (True, 50, ())

    def test_of_the_configuration_is_too_and_nothing_is_copied(self) -> None:
        plan = self.plan_of(Edge().header("a", "raced"))
        assert ([one.title for one in plan.candidates], plan.shadows) == (["raced"], ())

    def test_without_one_backups_are_passed_over(self) -> None:
        edge = Edge()
        assert node_of(edge.header("a", backup="svm;est=5")) == node_of(edge.header("a"))

    def test_a_virtual_model_is_its_primary(self) -> None:
        assert dict(Edge().step(1, "ranked").headers)[":path"] == "/v2/models/seq/infer"

    def test_a_mix_has_no_sessions(self) -> None:
        with pytest.raises(CallError, match="Header primary: a call of a session asks one model"):
            Edge().header("a", primary="(svm;est=1 plain;est=1);mix=avg")
        with pytest.raises(CallError, match="Model both is a mix"):
            Edge().header("a", "both")

    def test_headers_that_cannot_hold_are_refused_as_ever(self) -> None:
        with pytest.raises(CallError, match="Header backup: "):
            Edge().header("a", tloc="50", backup="svm;est=60")

    def test_the_race_is_given_the_seat(self) -> None:
        seats: list[Held] = []

        async def race(held: Held, plan: Plan, arrival: float) -> Respond:
            seats.append(held)
            return Respond(200, (), b"")

        edge = Edge(race=race)
        for _ in range(2):
            edge.step(1, "timed")
        assert edge.decide(rest("plain", tbms_session="a", tloc="50"), b"{}") == Respond(200, (), b"")
        one, two, other = (held.seat for held in seats)
        assert one == two
        assert one is not None
        assert other is not None
        assert read_claim(one.claim) != read_claim(other.claim)
        assert read_claim(one.claim) is not None

    def test_of_a_sequence_counts_from_when_envoy_got_the_call_and_not_from_its_body(self) -> None:
        wall, arrivals = [1000.0], []

        async def race(held: Held, plan: Plan, arrival: float) -> Respond:
            arrivals.append(arrival)
            return Respond(200, (), b"")

        edge = Edge(race=race)
        edge.policy._wall = lambda: wall[0]
        head = replace(rest("timed"), received=999.75)
        call = name_call(head.headers, 1 << 20)
        assert isinstance(call, Call)
        hold = edge.policy.decide(head, call, edge.now)
        assert isinstance(hold, Hold)
        wall[0] += 3  # while the body comes
        body = b'{"parameters": {"sequence_id": 7}}'
        asyncio.run(edge.policy.resolve(Held(head, call, (body,), hold.context)))
        assert arrivals == [edge.now - 0.25]

    def test_the_candidates_call_keeps_its_claim(self) -> None:
        edge = Edge()
        marked = {"x_tbms_hop": HOP.write(("10.9.9.9:1",)), "x_tbms_session": "its claim", "tbms_session": "a"}
        route = edge.decide(rest("plain", **marked))
        assert route.nodes == ("10.9.9.9:1",)
        assert (route.headers, "x-tbms-session" in route.keeps) == ((), True)
        route = edge.decide(rest("plain", **marked, x_tbms_retries="0"))
        assert (route.headers, "x-tbms-retries" in route.keeps) == ((("x-envoy-max-retries", "0"),), False)
        assert not edge.counts()


def test_the_key_of_a_session_is_of_the_model_as_the_client_names_it() -> None:
    call = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
    keys = {
        session_of_header(each, "a").key
        for each in (call, Call(call.protocol, call.verb, "m", "1"), Call(call.protocol, call.verb, "m", label="1"))
    }
    assert len(keys) == 3
    assert {len(key) for key in keys} == {16}
