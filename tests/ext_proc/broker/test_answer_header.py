from urllib.parse import quote

import http_sfv
import hypothesis.strategies as st
import pytest
from hypothesis import given

from ext_proc.broker.answer_header import answer_header
from ext_proc.broker.effects import Answer, Fail, Fallback, Why
from ext_proc.broker.plan import Candidate, How, Mix, Plan, StaticAnswer

PLAN = Plan(
    "embedding",
    (Candidate("embedding", "3"), Candidate("svm"), Mix((Candidate("bayes"), Candidate("keysearch")), How.AVG)),
    50,
)


def test_the_example_of_the_design_page() -> None:
    answer = Answer(1, b"", Why.OVERDUE, (0,), False, 36.21, 13.79)
    assert (
        answer_header(PLAN, answer, "10.0.0.3:8500")
        == 'svm;rank=1;elapsed=36.2;why=overdue;left=13.8;node="10.0.0.3:8500"'
    )


@pytest.mark.parametrize(
    ("outcome", "value"),
    [
        (
            Answer(0, b"", Why.PRIMARY, (0,), False, 20, 30),
            "embedding;version=3;rank=0;elapsed=20.0;why=primary;left=30.0",
        ),
        (
            Answer(2, b"", Why.FAILED, (0, 1), False, 20, 30),
            "(bayes keysearch);rank=2;elapsed=20.0;why=failed;left=30.0;mix=avg",
        ),
        (
            Answer(2, b"", Why.OVERDUE, (1,), True, 48, -0.04),
            "(keysearch);rank=2;elapsed=48.0;why=overdue;left=0.0;mix=avg;partial",
        ),
        (Fail(Why.DEADLINE, None, 50.3, -0.3), "embedding;elapsed=50.3;why=deadline;left=-0.3"),
        (Fallback(StaticAnswer(b"", ""), Why.DEADLINE, 50, 0), "embedding;elapsed=50.0;why=fallback;left=0.0"),
    ],
)
def test_every_outcome_has_a_header(outcome: Answer | Fail | Fallback, value: str) -> None:
    assert answer_header(PLAN, outcome) == value


@given(st.text(min_size=1, max_size=30), st.floats(0, 1e6), st.floats(-1e6, 1e6), st.none() | st.just('a"b\\:1'))
def test_any_name_gives_a_header_that_parses(name: str, elapsed: float, left: float, node: str | None) -> None:
    plan = Plan(name, (Candidate(name),), 50)
    text = answer_header(plan, Answer(0, b"", Why.PRIMARY, (0,), False, elapsed, left), node)
    assert text.isascii()
    assert "\n" not in text
    parsed = http_sfv.List()
    parsed.parse(text.encode())
    assert len(parsed) == 1
    assert parsed[0].value in (name, quote(name, safe=" "))
    assert float(parsed[0].params["left"]) == pytest.approx(left, abs=0.051)
    assert parsed[0].params.get("node") == node
