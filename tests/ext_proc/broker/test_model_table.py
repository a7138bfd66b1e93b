from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from ext_proc.broker.deadline import read_options
from ext_proc.broker.model_table import ModelTable, known_models
from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix, Plan, StaticAnswer
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.config import parse
from ext_proc.errors import CallError, ConfigError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.node import Node


def model_table(models: dict[str, dict[str, Any]], known: set[str] | None = None, **broker: Any) -> ModelTable:
    return ModelTable(BrokerSettings(**broker), {name: ModelSettings(**body) for name, body in models.items()}, known)


def call(model: str, version: str | None = None, label: str | None = None, verb: Verb = Verb.PREDICT) -> Call:
    return Call(InferenceProtocol.TFS_REST, verb, model, version, label)


def planned(book: ModelTable, asked: Call, seed: int = 0, **headers: str) -> Plan:
    plan = book.plan(asked, read_options(**headers), seed)
    assert plan is not None
    return plan


def titles(plan: Plan) -> list[str]:
    return [target.title for target in plan.candidates]


SEED = {
    "embedding": {"limit_ms": 50, "estimate_ms": 35, "backups": ["svm;est=25", "(bayes;w=2 keysearch);mix=avg"]},
    "svm": {"estimate_ms": 20},
    "bayes": {"estimate_ms": 15},
}


class TestPlainCalls:
    def test_unknown_models_and_models_with_nothing_to_do_are_plain(self) -> None:
        book = model_table(SEED)
        assert book.plan(call("other")) is None
        assert book.plan(call("svm")) is None
        assert book.plan(call("other"), read_options(key="u", grpc_timeout="5S")) is None

    def test_a_label_that_is_not_configured_is_left_to_the_model_server(self) -> None:
        book = model_table({"m": {"labels": {"stable": 3}}})
        assert book.plan(call("m", label="canary")) is None
        assert book.plan(call("m")) is None
        renamed = planned(book, call("m", label="stable"))
        assert renamed.candidates == (Candidate("m", "3"),)
        assert not renamed.races

    def test_streams_and_status_calls_are_never_raced(self) -> None:
        book = model_table({**SEED, "prod": {"alias": "embedding;version=3"}})
        for verb in (Verb.STATUS, Verb.METADATA, Verb.READY, Verb.CONFIG, Verb.STATISTICS, Verb.STREAM_INFER):
            assert book.plan(call("embedding", verb=verb), read_options(tloc="5")) is None
        renamed = planned(book, call("prod", verb=Verb.STATUS))
        assert titles(renamed) == ["embedding;version=3"]
        assert not renamed.races
        assert book.plan(call("prod", verb=Verb.STREAM_INFER)) is None


class TestLimits:
    def test_configured_backups_need_no_header(self) -> None:
        plan = planned(model_table(SEED), call("embedding"))
        assert plan.races
        assert plan.limit_ms == 50
        assert plan.answer is AnswerMode.BEST
        assert plan.candidates == (
            Candidate("embedding", estimate_ms=35),
            Candidate("svm", estimate_ms=25),
            Mix((Candidate("bayes", estimate_ms=15, weight=2), Candidate("keysearch")), How.AVG),
        )

    def test_headers_come_before_the_configuration(self) -> None:
        plan = planned(
            model_table(SEED), call("embedding"), tloc="80;est=30;answer=first;priority=4;cross-lag=3", backup="svm"
        )
        assert plan.limit_ms == 80
        assert plan.answer is AnswerMode.FIRST
        assert (plan.priority, plan.cross_lag_ms, plan.cross_request) == (4, 3, None)
        assert plan.candidates == (Candidate("embedding", estimate_ms=30), Candidate("svm", estimate_ms=20))

    def test_how_calls_share_batches_is_said_by_headers_then_by_the_name_then_by_what_it_leads_to(self) -> None:
        book = model_table(
            {
                "digits": {"cross_request": True, "cross_lag_ms": 5, "priority": 2},
                "urgent": {"alias": "digits", "priority": 9},
                "apart": {"cross_request": False, "backups": ["digits"]},
            }
        )

        def said(model: str, tloc: str | None = None) -> tuple[bool | None, float | None, int]:
            plan = planned(book, call(model), tloc=tloc)
            return plan.cross_request, plan.cross_lag_ms, plan.priority

        assert said("digits") == (True, 5, 2)
        assert said("digits", "50") == (True, 5, 2)
        assert said("digits", "50;cross-request=0;cross-lag=0;priority=0") == (False, 0, 0)
        assert said("urgent") == (True, 5, 9)
        assert said("apart") == (False, None, 0), "a backup brings nothing of its own"

    def test_a_model_of_which_only_nodes_are_told_something_is_not_raced_and_its_body_not_asked_for(self) -> None:
        book = model_table({"digits": {"cross_request": True}, "plain": {"estimate_ms": 5}})
        plan = planned(book, call("digits"))
        assert (plan.races, plan.shadows, titles(plan)) == (False, (), ["digits"])
        assert book.plan(call("digits", verb=Verb.STATUS)) is None
        assert book.plan(call("plain")) is None
        assert book.names == ()

    def test_the_earlier_of_limit_and_grpc_deadline_wins(self) -> None:
        book = model_table(SEED)
        assert planned(book, call("embedding"), grpc_timeout="40m").limit_ms == 36
        assert planned(book, call("embedding"), grpc_timeout="1S").limit_ms == 50
        assert planned(book, call("embedding"), tloc="90", grpc_timeout="70m").limit_ms == 65
        assert planned(book, call("embedding"), tloc="60", grpc_timeout="70m").limit_ms == 60

    def test_the_end_of_a_grpc_deadline_is_kept_for_the_way(self) -> None:
        book = model_table(SEED, deadline_slack_ms=2)
        assert planned(book, call("embedding"), grpc_timeout="40m").limit_ms == 38
        assert planned(book, call("embedding"), grpc_timeout="10m").limit_ms == 9

    def test_backups_without_any_limit_get_the_grpc_deadline_or_the_longest_limit(self) -> None:
        book = model_table({"m": {"backups": ["b"]}}, max_limit_ms=9000)
        assert planned(book, call("m")).limit_ms == 9000
        assert planned(book, call("m"), grpc_timeout="2S").limit_ms == 1995
        assert planned(book, call("m"), grpc_timeout="1H").limit_ms == 9000

    def test_a_primary_that_is_a_mix(self) -> None:
        plan = planned(model_table(SEED), call("embedding"), tloc="60;est=30", primary="(embedding other);mix=max")
        assert plan.candidates[0] == Mix(
            (Candidate("embedding", estimate_ms=35), Candidate("other", estimate_ms=30)), How.MAX
        )
        assert titles(plan)[1] == "svm"

    @pytest.mark.parametrize(
        ("headers", "says"),
        [
            ({"tloc": "70000"}, "Header tloc: value 70000 is over the longest limit accepted, 60000 ms."),
            ({"tloc": "50;est=51"}, "Header tloc: value: est=51 is over the limit of 50 ms."),
            (
                {"tloc": "50", "backup": "a, b;est=51"},
                "Header backup: member 2 (b): est=51 is over the limit of 50 ms.",
            ),
            ({"tloc": "9", "backup": "a, (b c;est=10);mix=max"}, "Header backup: member 2.2 (c): est=10 is over"),
            ({"tloc": "9", "primary": "(b;est=10 c);mix=max"}, "Header primary: member 1.1 (b): est=10 is over"),
            ({"backup": "a;est=51"}, "Header backup: member 1 (a): est=51 is over the limit of 50 ms."),
            ({"backup": "a, (b c d);mix=avg"}, "Header backup: the call would ask 5 models; at most 4 are allowed."),
        ],
    )
    def test_headers_that_cannot_hold_are_refused(self, headers: dict[str, str], says: str) -> None:
        book = model_table(SEED, known={"a", "b", "c", "d", "keysearch"}, max_candidates=4)
        with pytest.raises(CallError) as caught:
            book.plan(call("embedding"), read_options(**headers))
        assert caught.value.reason is Reason.INVALID
        assert caught.value.message.startswith(says)

    def test_an_unknown_backup_of_a_header_costs_the_call_nothing_but_that_backup(self) -> None:
        plan = planned(model_table(SEED, known={"embedding", "keysearch"}), call("embedding"), backup="nobody")
        assert titles(plan) == ["embedding", "nobody"]

    def test_a_short_limit_is_no_error_of_configured_estimates(self) -> None:
        assert planned(model_table(SEED), call("embedding"), tloc="5").limit_ms == 5
        assert planned(model_table(SEED), call("embedding"), tloc="0", backup="svm;est=3").limit_ms == 0
        assert planned(model_table(SEED), call("embedding"), tloc="50;est=40", grpc_timeout="20m").limit_ms == 18


class TestNames:
    def test_an_alias_takes_what_it_lacks_from_its_target(self) -> None:
        book = model_table({**SEED, "prod": {"alias": "embedding;label=stable", "limit_ms": 40}})
        plan = planned(book, call("prod"))
        assert plan.limit_ms == 40
        assert titles(plan) == ["embedding;label=stable", "svm", "avg(bayes keysearch)"]
        assert plan.model == "prod"
        assert titles(planned(book, call("prod", version="9")))[0] == "embedding;version=9"

    def test_labels_hold_behind_aliases_and_in_headers(self) -> None:
        book = model_table({"m": {"labels": {"stable": 3}}, "prod": {"alias": "m;label=stable"}})
        assert titles(planned(book, call("prod"))) == ["m;version=3"]
        assert titles(planned(book, call("x"), tloc="9", backup="m;label=stable, prod")) == [
            "x",
            "m;version=3",
            "m;version=3",
        ]

    def test_a_split_is_sticky_by_key_and_follows_its_weights(self) -> None:
        book = model_table({"m": {"split": ["m;version=3;w=9", "m;version=4;w=1"]}})
        for key in ("anna", '"bob 2"', "17"):
            sides = {titles(planned(book, call("m"), seed, key=key))[0] for seed in range(50)}
            assert len(sides) == 1
        by_seed = Counter(titles(planned(book, call("m"), seed))[0] for seed in range(5000))
        assert by_seed["m;version=4"] == pytest.approx(500, abs=80)
        by_key = Counter(titles(planned(book, call("m"), key=f"user-{n}"))[0] for n in range(5000))
        assert by_key["m;version=4"] == pytest.approx(500, abs=80)

    def test_a_call_that_names_its_version_is_not_split(self) -> None:
        book = model_table({"m": {"split": ["m;version=3", "m;version=4"]}})
        assert book.plan(call("m", version="4")) is None

    def test_splits_of_two_models_are_independent(self) -> None:
        book = model_table({name: {"split": ["a", "b"]} for name in ("m", "n")})
        same = sum(
            titles(planned(book, call("m"), key=f"u{n}")) == titles(planned(book, call("n"), key=f"u{n}"))
            for n in range(1000)
        )
        assert 400 < same < 600

    def test_virtual_models_are_lists_of_lists(self) -> None:
        book = model_table({
            "assistant": {"virtual": ["embedding;est=30", "cheap", "last"], "limit_ms": 90},
            "cheap": {"virtual": ["svm", "(bayes pair;w=3);mix=avg"]},
            "pair": {"virtual": ["(x;w=2 y);mix=avg"]},
            "svm": {"alias": "svm2"},
        })  # fmt: skip
        plan = planned(book, call("assistant"))
        assert titles(plan) == ["embedding", "svm2", "avg(bayes x y)", "last"]
        mixed = plan.candidates[2]
        assert isinstance(mixed, Mix)
        assert [member.weight for member in mixed.members] == pytest.approx([1, 2, 1])
        assert planned(book, call("x"), tloc="90", backup="cheap").candidates[1:] == plan.candidates[1:3]
        with pytest.raises(CallError, match="virtual"):
            book.plan(call("assistant", version="3"))

    def test_a_list_cannot_be_a_member_of_a_mix(self) -> None:
        book = model_table({"v": {"virtual": ["a", "b"]}, "top": {"virtual": ["(a b);mix=max"]}})
        for backup in ("(c v);mix=avg", "(c top);mix=avg"):
            with pytest.raises(CallError, match="cannot be a member of a mix=avg"):
                book.plan(call("x"), read_options(tloc="9", backup=backup))
        assert titles(planned(book, call("x"), tloc="9", backup="(c top);mix=max")) == ["x", "max(c a b)"]


class TestShadowsAndFallbacks:
    def test_a_share_of_calls_is_copied(self) -> None:
        book = model_table({"m": {"shadow": {"to": "next;version=2", "share": 0.25}}})
        plans = [book.plan(call("m"), seed=seed) for seed in range(2000)]
        copied = [plan for plan in plans if plan is not None]
        assert len(copied) == pytest.approx(500, abs=90)
        assert copied[0].shadows == (Candidate("next", "2"),)
        assert copied[0].candidates == (Candidate("m"),)
        assert not copied[0].races

    def test_backups_are_not_copied(self) -> None:
        book = model_table({"b": {"shadow": {"to": "next"}}})
        assert planned(book, call("x"), tloc="9", backup="b").shadows == ()

    def test_a_fallback_of_the_protocol_of_the_call(self) -> None:
        body = {"tfs-rest": {"body": '{"predictions": [0]}'}, "tfs-grpc": {"body_base64": "CgA="}}
        book = model_table({"m": {"fallback": body}})
        assert planned(book, call("m")).fallback == StaticAnswer(b'{"predictions": [0]}', "application/json")
        by_grpc = book.plan(Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m"))
        assert by_grpc is not None
        assert by_grpc.fallback == StaticAnswer(b"\n\x00", "application/grpc")
        assert book.plan(Call(InferenceProtocol.V2_REST, Verb.INFER, "m")) is None


class TestKnownModels:
    @staticmethod
    def node(*models: str, residency: str | None = None) -> Node:
        return Node("n", grpc="10.0.0.1:8500", models=frozenset(models), residency=residency)

    def test_a_fleet_of_fixed_sets_has_the_models_that_its_nodes_declare(self) -> None:
        assert known_models([self.node("a", "b"), self.node("b", "c")]) == {"a", "b", "c"}

    def test_nothing_is_known_of_nodes_that_may_be_asked_for_any_model(self) -> None:
        assert known_models([]) is None
        assert known_models([self.node("a"), self.node()]) is None
        assert known_models([self.node("a"), self.node("b", residency="10.0.0.1:9910")]) is None

    def test_the_configuration_is_held_against_them(self) -> None:
        text = """
            models: {bert: {backups: [svmm]}}
            nodes:
              - {id: a, grpc: "10.0.0.1:8500", models: [bert, svm]}
              - {id: b, grpc: "10.0.0.2:8500"%s}
            """
        assert parse(text % "", "tbms.yaml").models
        with pytest.raises(
            ConfigError, match=r"^tbms\.yaml: models\.bert -> backups\[0\] -> svmm: no model .* is svm\.$"
        ):
            parse(text % ", models: [svm]", "tbms.yaml")


class TestBadConfiguration:
    @pytest.mark.parametrize(
        ("models", "says"),
        [
            ({"a": {"alias": "b"}, "b": {"alias": "a"}}, "models.a -> a -> b -> a: the names lead in a cycle."),
            (
                {"a": {"virtual": ["x", "b"]}, "b": {"virtual": ["(y a);mix=max"]}},
                "a -> b -> a: the names lead in a cycle.",
            ),
            ({"a": {"split": ["x", "a"]}}, "models.a -> a -> a: the names lead in a cycle."),
            ({"a": {"backups": ["b"]}, "b": {"alias": "nobody"}}, "models.a -> backups[0] -> b -> nobody: no model"),
            ({"a": {"shadow": {"to": "nobody"}}}, "models.a -> shadow -> nobody: no model"),
            ({"a": {"shadow": {"to": "v"}}, "v": {"virtual": ["x", "y"]}}, "models.a.shadow: a copy goes to one model"),
            ({"a": {"virtual": ["(x v);mix=avg"]}, "v": {"virtual": ["x", "y"]}}, "v cannot be a member of a mix=avg"),
            (
                {"a": {"virtual": ["(x v);mix=avg"]}, "v": {"virtual": ["(x y);mix=max"]}},
                "cannot be a member of a mix=avg",
            ),
            ({"a": {"alias": "v;version=3"}, "v": {"virtual": ["x", "y"]}}, "a virtual model has no versions"),
            ({"a": {"backups": ["x"] * 4}}, "models.a: asks 5 or more models at once; at most 4 are allowed."),
            ({"a": {"split": ["x", "v"]}, "v": {"virtual": ["(x y x);mix=max", "x", "y"]}}, "at most 4 are allowed"),
        ],
    )
    def test_is_refused_with_the_path_to_the_fault(self, models: dict[str, dict[str, Any]], says: str) -> None:
        with pytest.raises(ConfigError) as caught:
            model_table(models, known={"x", "y"}, max_candidates=4)
        assert says in str(caught.value)

    def test_an_unknown_name_is_told_with_the_nearest_known_one(self) -> None:
        with pytest.raises(ConfigError) as caught:
            model_table({"a": {"backups": ["keyserach"]}}, known={"keysearch", "bayes"})
        assert str(caught.value) == (
            "models.a -> backups[0] -> keyserach: no model of this name is known; "
            "the nearest name that a node declares, or that has a section here, is keysearch."
        )

    def test_nesting_that_would_explode_is_refused_quickly(self) -> None:
        doubling = {f"v{n}": {"virtual": [f"v{n - 1}", f"v{n - 1}"]} for n in range(30, 0, -1)}
        with pytest.raises(ConfigError, match="at most 8"):
            model_table({**doubling, "v0": {}})
        chain = {f"a{n}": {"alias": f"a{n - 1}"} for n in range(100, 0, -1)}
        with pytest.raises(ConfigError, match="deeper than 32"):
            model_table(chain)

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"alias": "a", "split": ["b"]}, "one of alias and split"),
            ({"virtual": ["a"], "backups": ["b"]}, "a virtual model has no backups"),
            ({"alias": "a", "labels": {"x": 1}}, "labels belong to the model itself"),
            ({"limit_ms": 5, "estimate_ms": 6}, "estimate_ms 6 is over limit_ms 5"),
            ({"limit_ms": 5, "backups": ["b;est=6"]}, "b: est=6 is over limit_ms 5"),
            ({"limit_ms": -1}, "greater than 0"),
            ({"cross_lag_ms": -1}, "greater than or equal to 0"),
            ({"priority": 1001}, "less than or equal to 1000"),
            ({"limit_ms": float("nan")}, "limit_ms"),
            ({"backups": ["a, b"]}, "value names 2 candidates"),
            ({"backups": ["a b"]}, "does not parse"),
            ({"split": ["a;w=0"]}, "w is over 0"),
            ({"shadow": {"to": "a", "share": 2}}, "less than or equal to 1"),
            ({"fallback": {"tfs-rest": {}}}, "exactly one of body and body_base64"),
            ({"fallback": {"tfs-grpc": {"body_base64": "?"}}}, "not base64"),
            ({"fallback": {"soap": {"body": "x"}}}, "soap"),
            ({"backup": ["a"]}, "Extra inputs"),
        ],
    )
    def test_sections_that_contradict_themselves(self, body: dict[str, Any], says: str) -> None:
        with pytest.raises(ValidationError) as caught:
            ModelSettings(**body)
        assert says in str(caught.value)
