"""`tbms-answer` as the server writes it, read by a client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.broker.answer_header import answer_header
from ext_proc.broker.effects import Answer, Fail, Outcome, Why
from ext_proc.broker.plan import Candidate, How, Mix, Plan
from ext_proc.client import ClientError, Model, TbmsAnswer, read_answer
from tests.ext_proc.known.test_map_file import NAMES

PLAIN = 'svm;rank=1;elapsed=36.2;why=overdue;left=13.8;node="10.0.0.3:8500"'


@given(NAMES, st.one_of(st.none(), st.integers(0, 2**62)), st.sampled_from(list(Why)), st.integers(0, 5))
def test_what_the_server_writes_is_read(name: str, version: int | None, why: Why, rank: int) -> None:
    candidate = Candidate(name, None if version is None or version > 10**15 - 1 else str(version))
    plan = Plan("primary", (candidate,) * 6, 50.0)
    outcome: Outcome = Answer(rank, None, why, (0,), False, 12.34, 37.66)
    read = read_answer(answer_header(plan, outcome, "10.0.0.3:8500"))
    asked = Model(name, version=None if candidate.version is None else int(candidate.version))
    assert read == TbmsAnswer((asked,), why, rank, 12.3, 37.7, node="10.0.0.3:8500")


def test_a_mix_and_an_error() -> None:
    mix = Mix((Candidate("bayes"), Candidate("keysearch", label="new"), Candidate("c")), How.AVG)
    told = answer_header(Plan("m", (mix,), 50.0), Answer(0, None, Why.PARTIAL, (0, 1), True, 48.0, -2.0))
    assert read_answer(told) == TbmsAnswer(
        (Model("bayes"), Model("keysearch", label="new")), Why.PARTIAL, 0, 48.0, -2.0, How.AVG, True
    )
    failed = read_answer(answer_header(Plan("m", (mix,), 50.0), Fail(Why.DEADLINE, None, 50.0, 0.0)))
    assert failed == TbmsAnswer((Model("m"),), Why.DEADLINE, None, 50.0, 0.0)
    refused = read_answer("();why=expired")
    assert refused is not None
    assert (refused.models, refused.model) == ((), "")


@pytest.mark.parametrize(
    "reply",
    [PLAIN, {"Tbms-Answer": PLAIN}, [("content-type", "x"), ("tbms-answer", PLAIN)], [("tbms-answer", PLAIN.encode())]],
)
def test_it_is_found_where_clients_have_it(reply: Any) -> None:
    read = read_answer(reply)
    assert read is not None
    assert (read.model, read.why, read.node) == ("svm", Why.OVERDUE, "10.0.0.3:8500")


@pytest.mark.parametrize("reply", [None, {}, [], {"content-type": "x"}])
def test_a_call_that_was_not_raced_has_none(reply: Any) -> None:
    assert read_answer(reply) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "svm",
        "svm;why=soon",
        "a;why=primary, b;why=primary",
        "5;why=primary",
        "a;why=primary;rank=x",
        "a;why=primary;elapsed=?1",
        "é;why=primary",
        "x" * 5000,
    ],
)
def test_what_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ClientError, match=r"^tbms-answer: "):
        read_answer(text)
