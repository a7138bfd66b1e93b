"""What an edge says of a call that is not made: the same as it then does, and without a trace."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.admin.call_to_explain import read_head
from ext_proc.admin.explanation import CallToExplain, EdgeExplanation, read_call, read_explanation
from ext_proc.config import parse
from ext_proc.edge.held import HeldForCompany, HeldRace
from ext_proc.edge.role import EdgeRole
from ext_proc.edge.ways import Ground, Way, way_of
from ext_proc.errors import CallError, TbmsError
from ext_proc.known.keeper import Written
from ext_proc.processing.decision import Hold, Route
from ext_proc.processing.request import NEWEST
from mesh.node import Node
from mesh.residency.state import Residency

TFS = "/tensorflow.serving.PredictionService/Predict"
V2 = "/inference.GRPCInferenceService/ModelInfer"
NODES = [
    {"id": name, "grpc": f"10.0.0.{n}:8500", "rest": f"10.0.0.{n}:8501", "models": ["plain", "bert", "svm", "seq"]}
    for n, name in enumerate("abc", start=1)
]
CONFIG: dict[str, Any] = {
    "nodes": [*NODES, {"id": "d", "rest": "10.0.0.4:8501", "models": ["other", "packed"], "zone": "far"}],
    "routing": {"replicas": 2, "retries": 1},
    "models": {
        "bert": {"limit_ms": 50, "estimate_ms": 35, "backups": ["svm;est=5"], "labels": {"stable": 3}},
        "prod": {"alias": "plain;version=7"},
        "trial": {"split": ["plain;w=1", "svm;w=3"]},
        "both": {"virtual": ["(svm;est=4 plain;est=6);mix=avg", "other"]},
        "seq": {"stateful": True},
        "told": {"alias": "plain", "priority": 3},
        "boxed": {"alias": "packed"},
    },
    "batching": {"models": {"packed": {"cross_request": True}}},
}


class Edge:
    """An edge role that is not running, at a time that stands still."""

    def __init__(self, **sections: Any) -> None:
        self.now = 1000.0
        # Without a map unless it is asked for: its keeper's timer takes a running loop.
        document = {"known": {"enabled": False}, **CONFIG, **sections}
        self.role = EdgeRole(parse(yaml.safe_dump(document), "tbms.yaml"), lambda: self.now)
        self.role._router.on_loss = lambda: None  # the keeper's timer, which takes a running loop
        self.role._router.update(Node(**{**each, "models": frozenset(each["models"])}) for each in self.nodes())

    @staticmethod
    def nodes() -> list[dict[str, Any]]:
        return CONFIG["nodes"]  # type: ignore[no-any-return]

    def explain(self, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> EdgeExplanation:
        asked = read_call({"path": path, "headers": dict(headers or {}), **more})
        told = self.role._explainer.explain(asked)
        assert read_explanation({**told}) == told, "a command reads what an edge says"
        return told

    def decided(self, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> tuple[Way, Any]:
        """What the policy then does with it: the way, and the decision."""
        asked: CallToExplain = {"path": path, "headers": dict(headers or {}), **more}
        try:
            head, call = read_head(asked, NEWEST)
            if call is None:
                return Way.PASSED, None
            before = self.role._ways.counts.copy()
            decision = self.role.policy.decide(head, call, self.now)
        except CallError as error:
            return Way.REFUSED, error
        counted = list((self.role._ways.counts - before).elements())
        if not counted:  # its body has to be read for a sequence
            return Way.DECIDED, decision
        return way_of(*counted), decision


def predict(model: str, tail: str = "") -> str:
    return f"/v1/models/{model}{tail}:predict"


GRPC = {"content-type": "application/grpc"}
CALLS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "plain": (predict("plain"), {}, {}),
    "status": ("/v1/models/plain", {}, {"method": "GET"}),
    "no inference": ("/index.html", {}, {"method": "GET"}),
    "a version": (predict("plain", "/versions/3"), {}, {}),
    "a limit": (predict("plain"), {"tloc": "50;est=20"}, {}),
    "a limit over grpc": (V2, GRPC, {"model": "bert"}),
    "on an Envoy that cannot": (V2, GRPC, {"model": "bert", "envoy": "1.36"}),
    "backups": (predict("plain"), {"tloc": "50", "backup": "svm;est=5"}, {}),
    "configured": (predict("bert"), {}, {}),
    "no body": (predict("bert"), {}, {"method": "GET"}),
    "an alias": (predict("prod"), {}, {}),
    "an alias over grpc": (TFS, GRPC, {"model": "prod"}),
    "a split": (predict("trial"), {"tbms-key": "u1"}, {}),
    "a label": (predict("bert", "/labels/stable"), {}, {}),
    "a mix": (predict("both"), {}, {}),
    "told": (predict("told"), {}, {}),
    "a session": (predict("plain"), {"tbms-session": "s1"}, {}),
    "a sequence": ("/v2/models/seq/infer", {}, {}),
    "gathered": ("/v2/models/packed/infer", {}, {}),
    "gathered under another name": ("/v2/models/boxed/infer", {}, {}),
    "unknown": (predict("nobody"), {}, {}),
    "wrong": (predict("plain"), {"tloc": "soon"}, {}),
    "wrong name": (predict("a%2fb"), {}, {}),
    "a mix in a session": (predict("both"), {"tbms-session": "s1"}, {}),
    "only rest": (TFS, GRPC, {"model": "other"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_said_is_what_is_done(name: str) -> None:
    path, headers, more = CALLS[name]
    edge = Edge()
    told, (way, decision) = edge.explain(path, headers, **more), edge.decided(path, headers, **more)
    assert told["way"] == way
    if isinstance(decision, Route):
        placed = sorted((node for node in told["nodes"] if node["place"] is not None), key=lambda node: node["place"])
        assert tuple(node["address"] for node in placed) == decision.nodes
    if isinstance(decision, CallError):
        refusal = told["refusal"]
        assert refusal is not None
        assert (refusal["http"], refusal["message"]) == (decision.reason.http, decision.message)
    if isinstance(decision, Hold) and isinstance(decision.context, HeldRace):
        plan = decision.context.plan
        if plan.races:
            assert told["limit_ms"] == plan.limit_ms
            assert [[one["model"] for one in rank["candidates"]] for rank in told["ranks"]] == [
                [one.title for one in (rank.members if hasattr(rank, "members") else (rank,))]
                for rank in plan.candidates
            ]
    if isinstance(decision, Hold) and isinstance(decision.context, HeldForCompany):
        assert told["ground"] == Ground.BATCHING
    assert (way is Way.GATHERED) == name.startswith("gathered")


def state_of(edge: Edge) -> list[Any]:
    """All that later decisions go by."""
    role = edge.role
    router = role._router
    return [
        pickle.dumps([(memo._young, memo._old) for memo in router._shortlists._memos.values()]),
        pickle.dumps((router.demand._counts._young, router.demand._counts._old)),
        [(node.load.in_flight, node.load.recent) for node in router._nodes.values()],
        list(router._loads._expected),
        pickle.dumps(role._sessions._sittings._sittings),
        role._sessions.counts,
        dict(role._explainer._estimates._series),
        dict(role._ways.counts),
        role.policy._seed,
        len(role._gathering._gatherers) if role._gathering is not None else 0,
    ]


def test_nothing_is_counted_remembered_or_moved() -> None:
    edge = Edge()
    for path, headers, more in list(CALLS.values())[:8]:
        edge.decided(path, headers, **more)
    edge.decided(predict("plain"), {"tbms-session": "old"})
    before = state_of(edge)
    for path, headers, more in CALLS.values():
        edge.explain(path, headers, **more)
    edge.explain(predict("plain"), {"tbms-session": "old"})
    edge.explain(predict("plain"), {"tbms-session": "old;end"})
    assert state_of(edge) == before


def test_the_way_to_the_model_is_told_step_by_step() -> None:
    edge = Edge()
    told = edge.explain(predict("prod"))
    assert (told["ground"], told["goes_to"]) == ("renamed", "plain;version=7")
    assert told["names"] == [{"name": "prod", "kind": "alias", "leads_to": "plain;version=7", "among": {}}]
    label = edge.explain(predict("bert", "/labels/stable"))
    assert [(step["kind"], step["leads_to"]) for step in label["names"]] == [("label", "bert;version=3")]
    split = edge.explain(predict("trial"), {"tbms-key": "u1"})
    assert split["names"][0]["among"] == {"plain": 1.0, "svm": 3.0}
    assert split["goes_to"] == split["names"][0]["leads_to"]


def test_a_race_is_told_with_its_schedule() -> None:
    told = Edge().explain(predict("bert"))
    primary, backup = told["ranks"]
    assert (told["way"], told["ground"], told["limit_ms"]) == ("raced", "settings", 50.0)
    assert (primary["starts_ms"], backup["starts_ms"]) == (0.0, 35.0)
    assert backup["latest_ms"] == 50.0 - 5.0 - 2.0
    (one,) = backup["candidates"]
    assert (one["model"], one["estimate_ms"], one["live"], one["cold"]) == ("svm", 5.0, False, False)
    assert one["node"] in "abc"


def test_every_node_is_told_with_its_reasons() -> None:
    edge = Edge(routing={"replicas": 1, "retries": 1, "zone": "near"})
    router = edge.role._router
    first, second, third = [each["id"] for each in edge.explain(predict("plain"))["nodes"][:3]]
    router.set_alive(first, False)
    nodes = {each["id"]: each for each in edge.explain(TFS, GRPC, model="plain")["nodes"]}
    assert nodes[first]["why"] == "dead; holds the model; home of the model; in another zone"
    assert (nodes[second]["place"], nodes[third]["place"], nodes[first]["place"]) == (0, 1, None)
    assert nodes[second]["why"].startswith("holds the model; rank 1")
    assert nodes["d"]["why"] == "has no grpc endpoint"
    nodes = {each["id"]: each for each in edge.explain(predict("plain"))["nodes"]}
    assert (nodes["d"]["why"], nodes["d"]["told_by"]) == ("declares other models", "declaration")
    router.cache_map.snapshot(second, {"plain": Residency.FAILED})
    router.cache_map.leave(third)
    nodes = {each["id"]: each for each in edge.explain(predict("plain"))["nodes"]}
    assert nodes[second]["why"].startswith("could not load the model")
    assert "about to leave" in nodes[third]["why"]


def test_a_session_is_told_with_its_node() -> None:
    edge = Edge()
    _, route = edge.decided(predict("plain"), {"tbms-session": "s7"})
    told = edge.explain(predict("plain"), {"tbms-session": "s7"})
    (node,) = [node for node in told["nodes"] if node["place"] == 0]
    assert (told["session_node"], (node["address"],)) == (node["id"], route.nodes)
    assert node["why"].endswith("the session's node")


def test_without_a_map_it_is_said_why() -> None:
    told = Edge().explain(predict("plain"))
    assert (told["way"], told["ground"], told["map"]) == ("decided", "no-map", None)
    assert told["why"].endswith("no map of known calls is kept here (known.enabled is off).")


def test_the_map_decides_only_where_a_call_says_no_more_than_a_name(tmp_path: Path) -> None:
    edge = Edge(known={"file": str(tmp_path / "known.pb")})
    keeper = edge.role._map_keeper
    assert keeper is not None
    told = edge.explain(predict("plain"))
    assert (told["way"], told["ground"], told["map"]) == (
        "decided",
        "unmapped",
        {"absence": "not-called", "taken": None, "shares": []},
    )
    edge.decided(predict("plain"))
    waits = edge.explain(predict("plain"))["map"]
    assert waits is not None
    assert waits["absence"] == "waits"
    for _ in keeper.known.look(edge.now):
        pass
    keeper.written = Written(1, "1", 1, 1, edge.now)
    told = edge.explain(predict("plain"))
    assert (told["way"], told["ground"]) == ("known", "")
    keeper.unread = True
    told = edge.explain(predict("plain"))
    assert (told["way"], told["ground"]) == ("decided", "unmapped")
    assert told["why"].endswith("Envoy has no filter that reads the map.")
    keeper.unread = False
    told = edge.explain(predict("plain"))
    assert told["map"] is not None
    assert sum(share["share"] for share in told["map"]["shares"]) == pytest.approx(1.0)
    for path, headers, more in [
        (predict("plain"), {"tbms-key": "u"}, {}),
        (predict("plain") + "?x=1", {}, {}),
        (predict("%70lain"), {}, {}),
        (predict("plain"), {}, {"method": "GET"}),
        (predict("plain"), {"grpc-timeout": "soon"}, {}),
    ]:
        told = edge.explain(path, headers, **more)
        assert (told["way"], told["ground"]) in {("decided", "more"), ("refused", "")}
    absent = edge.explain(predict("nobody"))["map"]
    assert absent is not None
    assert absent["absence"] == "not-held"
    decided = edge.explain(predict("bert"))["map"]
    assert decided is not None
    assert decided["absence"] == "decision"


def test_a_grpc_call_without_its_model_cannot_be_explained() -> None:
    with pytest.raises(TbmsError, match=r"^model: "):
        Edge().explain(TFS, GRPC)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "the document"),
        ({}, "path"),
        ({"path": "v1"}, "path"),
        ({"path": "/a\nb"}, "path"),
        ({"path": "/" + "x" * 9000}, "path"),
        ({"path": "/", "method": "get"}, "method"),
        ({"path": "/", "headers": {"Tloc": "5"}}, "headers.Tloc"),
        ({"path": "/", "headers": {":path": "/"}}, "headers.:path"),
        ({"path": "/", "headers": {"tloc": "5\r\nx: y"}}, "headers.tloc"),
        ({"path": "/", "headers": {f"x{n}": "" for n in range(65)}}, "headers"),
        ({"path": "/", "more": 1}, "more"),
    ],
)
def test_what_is_no_call_is_refused_with_the_field_at_fault(document: Any, field: str) -> None:
    with pytest.raises(TbmsError, match=rf"^{field}"):
        read_call(document)
