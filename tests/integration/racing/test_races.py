"""Races through a real Envoy: who answers, whatever the primary does, in all four protocols."""

import asyncio
from dataclasses import replace

import grpc
import pytest

from ext_proc.batching.terms import read_terms
from ext_proc.wire.call import InferenceProtocol
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part

PROTOCOLS = tuple(InferenceProtocol)
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
REFUSED = (503, grpc.StatusCode.UNAVAILABLE)
SHED = (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
BROKEN = (500, grpc.StatusCode.INTERNAL)
BACKED = {"tloc": "400;est=20", "backup": "svm;est=200"}  # room for a busy machine


@protocols
async def test_a_primary_in_time_answers_itself(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(1), svm=Part(2))
    got = await stage.client.call(protocol, "bert", {"tloc": "5000;est=4000", "backup": "svm;est=10"})
    assert (got.value, got.tell("rank"), got.tell("why")) == (1, "0", "primary")
    assert got.answer.startswith("bert;")
    node = stage.puppet.node
    assert got.tell("node") == (node.grpc if protocol.is_grpc else node.rest)
    assert [call.model for call in stage.puppet.calls] == ["bert"]


@protocols
@pytest.mark.parametrize(
    ("primary", "why"),
    [
        (Part(1, seconds=0.8), "overdue"),
        (Part(1, seconds=None), "overdue"),
        (Part(1, first=5.0), "overdue"),
        (Part(1, status=BROKEN), "failed"),
        (Part(1, status=REFUSED), "refused"),
        (Part(1, status=SHED), "refused"),
    ],
    ids=["slow", "hanging", "cold", "failing", "refusing", "shedding"],
)
async def test_a_backup_answers_for_a_primary_that_does_not(
    stage: Stage, protocol: InferenceProtocol, primary: Part, why: str
) -> None:
    stage.plays(bert=primary, svm=Part(2))
    got = await stage.client.call(protocol, "bert", BACKED)
    assert (got.value, got.tell("rank"), got.tell("why")) == (2, "1", why), got.answer
    assert got.answer.startswith("svm;")
    asked = [call.model for call in stage.puppet.calls]
    assert asked == ["bert", "svm"], "nobody is asked twice, and no candidate is raced again"
    if why == "overdue":
        (loser,) = stage.puppet.of("bert")
        await stage.puppet.until(lambda: loser.end == "cancelled")
    else:
        assert float(got.tell("elapsed")) < 300, "a failed primary is not waited for"


@protocols
async def test_a_model_that_was_cold_answers_itself_once_it_is_loaded(
    stage: Stage, protocol: InferenceProtocol
) -> None:
    stage.plays(bert=Part(1, first=5.0), svm=Part(2))
    headers = BACKED
    assert (await stage.client.call(protocol, "bert", headers)).value == 2
    assert (await stage.client.call(protocol, "bert", headers)).value == 1


@protocols
async def test_nobody_answers_in_time(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(seconds=None), svm=Part(seconds=None))
    got = await stage.client.call(protocol, "bert", {"tloc": "100;est=20", "backup": "svm;est=20"})
    assert got.status == ("DEADLINE_EXCEEDED" if protocol.is_grpc else 504)
    assert got.error == "no model answered within the limit of 100 ms"
    assert got.tell("why") == "deadline"
    assert float(got.tell("elapsed")) >= 100
    await stage.puppet.until(lambda: {call.end for call in stage.puppet.calls} == {"cancelled"})


@protocols
async def test_the_error_of_a_primary_that_nobody_made_up_for_is_its_own(
    stage: Stage, protocol: InferenceProtocol
) -> None:
    trailers = (("x-detail", "7"), ("grpc-status-details-bin", b"\x08\x0d\xff"))
    stage.plays(bert=Part(status=BROKEN, headers=(("x-mine", "1"),), trailers=trailers), svm=Part(status=REFUSED))
    got = await stage.client.call(protocol, "bert", BACKED)
    assert got.status == ("INTERNAL" if protocol.is_grpc else 500)
    assert got.error == ("bert: 100% wrong" if protocol.is_grpc else "bert: wrong")
    assert got.tell("why") == "failed"
    assert got.headers["x-mine"] == "1"
    if protocol.is_grpc:
        assert set(trailers) <= set(got.trailers)


@protocols
async def test_the_first_answer_is_taken_where_the_call_says_so(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(1, seconds=2.0), svm=Part(2))
    got = await stage.client.call(protocol, "bert", {"tloc": "3000;est=20;answer=first", "backup": "svm;est=20"})
    assert (got.value, got.tell("why")) == (2, "first")
    assert float(got.tell("elapsed")) < 1500


@protocols
@pytest.mark.parametrize(
    ("how", "expected"), [("max", 5.0), ("avg", 3.0), ("avg;w", 2.0)], ids=["max", "avg", "weights"]
)
async def test_a_mix_is_one_answer(stage: Stage, protocol: InferenceProtocol, how: str, expected: float) -> None:
    stage.plays(one=Part(1.0), two=Part(5.0), bert=Part())
    weighted = "(one;w=3 two;w=1);mix=avg" if how == "avg;w" else f"(one two);mix={how}"
    got = await stage.client.call(protocol, "bert", {"tloc": "2000", "primary": weighted})
    assert got.value == expected, got.answer
    assert got.answer.startswith("(one two);rank=0;")
    assert "partial" not in got.answer
    assert sorted(call.model for call in stage.puppet.calls) == ["one", "two"]


@protocols
async def test_of_a_mix_what_has_come_by_the_limit(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(one=Part(1.0), two=Part(seconds=None))
    got = await stage.client.call(protocol, "bert", {"tloc": "300;est=20", "primary": "(one two);mix=avg"})
    assert got.value == 1.0
    assert got.answer.startswith("(one);rank=0;")
    assert got.answer.endswith(f';mix=avg;partial;node="{got.tell("node")}"')
    (loser,) = stage.puppet.of("two")
    await stage.puppet.until(lambda: loser.end == "cancelled")


@protocols
async def test_a_mix_whose_members_do_not_fit_gives_way(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(one=Part(1.0), two=Part(body=b"garbage"), svm=Part(2.0))
    headers = {"tloc": "2000;est=20", "primary": "(one two);mix=avg", "backup": "svm;est=20"}
    got = await stage.client.call(protocol, "bert", headers)
    assert (got.value, got.tell("why")) == (2.0, "failed")


async def test_a_broken_mix_alone_is_an_error_that_names_the_member(stage: Stage) -> None:
    stage.plays(one=Part(1.0), two=Part(body=b'{"predictions": [1, 2]}'))
    got = await stage.client.call(InferenceProtocol.TFS_REST, "bert", {"tloc": "2000", "primary": "(one two);mix=avg"})
    assert got.status == 424
    assert "member two is int64" in got.error
    assert got.tell("why") == "failed"


@protocols
async def test_a_candidate_gets_the_call_and_not_what_steered_it(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(status=BROKEN), svm=Part(2))
    headers = {**BACKED, "x-mine": "kept", "x-request-id": "7-a", "authorization": "Bearer x"}
    await stage.client.call(protocol, "bert", headers)
    for call in stage.puppet.calls:
        assert (call.protocol, call.header("x-mine"), call.header("x-request-id")) == (protocol, "kept", "7-a")
        assert call.header("authorization") == "Bearer x"
        for name in ("tloc", "backup", "primary", "x-tbms-hop", "x-tbms-node"):
            assert call.header(name) is None
    bert, svm = stage.puppet.calls
    if not protocol.is_grpc:
        assert bert.body == svm.body
        assert bert.header("host") == stage.edge.target


@protocols
async def test_the_node_of_a_candidate_is_told_its_terms(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(status=BROKEN), svm=Part(2))
    forged = {"x-tbms-call": "1;race=forged;priority=1000"}
    asked = {"tloc": "5000;est=20;cross-request=1;cross-lag=7;priority=3", "backup": "svm;est=200", **forged}
    await stage.client.call(protocol, "bert", asked)
    first, second = (read_terms({"x-tbms-call": call.header("x-tbms-call") or ""}) for call in stage.puppet.calls)
    assert (first.lag_ms, first.shares, first.priority, first.rank, second.rank) == (7, True, 3, 0, 1)
    assert replace(first, rank=1, limit_ms=second.limit_ms) == second, "the same race"
    assert 0 < second.limit_ms < first.limit_ms <= 5000
    assert first.race not in (None, "forged")
    await stage.client.call(protocol, "bert", asked)
    assert read_terms({"x-tbms-call": stage.puppet.calls[-1].header("x-tbms-call") or ""}).race != first.race


async def test_200_races_at_once(stage: Stage) -> None:
    """Of every protocol, half of them with a primary that hangs: each gets its own answer."""
    stage.plays(bert=Part(1), hang=Part(seconds=None), svm=Part(2))
    headers = {"tloc": "5000;est=20", "backup": "svm;est=4000"}
    asked = [(PROTOCOLS[n % 4], "hang" if n % 8 < 4 else "bert") for n in range(200)]
    got = await asyncio.gather(*(stage.client.call(protocol, model, headers) for protocol, model in asked))
    assert [one.value for one in got if one.tell("rank") == "1"].count(2) >= 100
    for (_, model), one in zip(asked, got, strict=True):
        assert one.value == {"0": 1, "1": 2}[one.tell("rank")]
        assert model == "bert" or one.tell("why") == "overdue"
    await stage.puppet.until(lambda: all(call.end != "running" for call in stage.puppet.calls))
    assert {call.end for call in stage.puppet.of("hang")} == {"cancelled"}
    assert len(stage.puppet.of("hang")) == 100
