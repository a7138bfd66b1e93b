"""Every way in which a race can end, as the client of each protocol gets it."""

import json
from dataclasses import replace

import pytest

from ext_proc.broker.effects import Answer, Fail, Fallback, Outcome, Why
from ext_proc.broker.plan import StaticAnswer
from ext_proc.errors import CallError, Reason, TbmsError
from ext_proc.processing import decision
from ext_proc.racing.answer import compose
from ext_proc.upstream.client import Response
from ext_proc.wire.call import InferenceProtocol
from tests.ext_proc.racing.scene import NODE, grpc_reply, held, plan, reply_of, rest_reply

PROTOCOLS = tuple(InferenceProtocol)
RACE = plan("bert", "svm")


def composed(protocol: InferenceProtocol, outcome: Outcome) -> decision.Respond:
    answer = compose(held(protocol=protocol), RACE, outcome)
    told = [value for key, value in answer.headers if key == "tbms-answer"]
    assert len(told) == 1, "every reply says who answered, once"
    if protocol.is_grpc:
        assert (answer.status, answer.headers[0]) == (200, ("content-type", b"application/grpc"))
        assert [key for key, _ in answer.trailers or ()].count("grpc-status") == 1
    else:
        assert answer.trailers is None
    return answer


def won(payload: Response, rank: int = 0, why: Why = Why.PRIMARY) -> Answer:
    return Answer(rank, payload, why, (0,), False, 12.0, 38.0)


def told(answer: decision.Respond) -> str:
    return dict(answer.headers)["tbms-answer"].decode()


def error_of(answer: decision.Respond) -> tuple[int, str]:
    """Status and message, as the client reads them."""
    if answer.trailers is None:
        return answer.status, json.loads(answer.body)["error"]
    assert answer.body == b""
    trailers = dict(answer.trailers)
    return int(trailers["grpc-status"]), trailers["grpc-message"].decode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_winner_as_it_came(protocol: InferenceProtocol) -> None:
    answer = composed(protocol, won(reply_of(protocol, b"body"), 1, Why.OVERDUE))
    assert answer.body == (b"\0\0\0\0\4body" if protocol.is_grpc else b"body")
    assert told(answer) == f'svm;rank=1;elapsed=12.0;why=overdue;left=38.0;node="{NODE}"'


def test_headers_and_trailers_of_a_grpc_winner_are_kept() -> None:
    answer = composed(InferenceProtocol.TFS_GRPC, won(grpc_reply(b"", 0, ("x-trailing", b"2"), ("x-t-bin", b"AQ"))))
    assert answer.headers[1:3] == (("x-initial", b"1"), ("x-initial-bin", b"AAEC"))
    assert answer.trailers == (("grpc-status", b"0"), ("x-trailing", b"2"), ("x-t-bin", b"AQ"))
    assert answer.body == b"\0\0\0\0\0", "an empty message is a message"


def test_headers_of_a_rest_winner_are_kept_line_by_line() -> None:
    lines = (("set-cookie", b"a=1"), ("set-cookie", b"b=2"), ("content-encoding", b"gzip"), ("x-odd", b"\xfc"))
    answer = composed(InferenceProtocol.TFS_REST, won(rest_reply(b"packed", 201, *lines)))
    assert answer.status == 201
    assert answer.headers[1:-1] == lines


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_node_cannot_say_who_answered(protocol: InferenceProtocol) -> None:
    forged = reply_of(protocol, b"x")
    forged = replace(forged, headers=(*forged.headers, ("tbms-answer", b"forged")))
    assert told(composed(protocol, won(forged))).startswith("bert;rank=0;")


def test_an_unknown_node_is_not_named() -> None:
    assert "node" not in told(composed(InferenceProtocol.TFS_REST, won(replace(rest_reply(), node=""))))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_in_time(protocol: InferenceProtocol) -> None:
    answer = composed(protocol, Fail(Why.DEADLINE, None, 50.0, 0.0))
    assert error_of(answer) == (
        4 if protocol.is_grpc else 504,
        "no model answered within the limit of 50 ms",
    )
    assert told(answer) == "bert;elapsed=50.0;why=deadline;left=0.0"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_too_late_already(protocol: InferenceProtocol) -> None:
    status, message = error_of(composed(protocol, Fail(Why.EXPIRED, None, 60.0, -10.0)))
    assert status == (4 if protocol.is_grpc else 504)
    assert message == "the limit of 50 ms had passed before a model was asked"


def test_the_primarys_own_rest_error() -> None:
    own = rest_reply(b'{"error": "shape"}', 400, ("x-mine", b"1"))
    answer = composed(InferenceProtocol.TFS_REST, Fail(Why.FAILED, own, 5.0, 45.0))
    assert (answer.status, answer.body) == (400, own.body)
    assert ("x-mine", b"1") in answer.headers
    assert told(answer) == "bert;elapsed=5.0;why=failed;left=45.0"


def test_the_primarys_own_grpc_error() -> None:
    details = (("grpc-message", b"bad shape"), ("grpc-status-details-bin", b"CAMSAA"), ("x-trailing", b"2"))
    answer = composed(InferenceProtocol.V2_GRPC, Fail(Why.FAILED, grpc_reply(b"", 3, *details), 5.0, 45.0))
    assert answer.body == b""
    assert answer.trailers == (("grpc-status", b"3"), *details)
    assert ("x-initial", b"1") in answer.headers


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (CallError(Reason.NOT_FOUND, "no such model"), Reason.NOT_FOUND, "no such model"),
        (TbmsError("the call got no answer: reset"), Reason.UNAVAILABLE, "the call got no answer: reset"),
    ],
)
def test_errors_of_our_own(protocol: InferenceProtocol, error: TbmsError, reason: Reason, message: str) -> None:
    answer = composed(protocol, Fail(Why.FAILED, error, 5.0, 45.0))
    assert error_of(answer) == (reason.grpc if protocol.is_grpc else reason.http, message)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_configured_answer(protocol: InferenceProtocol) -> None:
    static = StaticAnswer(b"fixed", "application/grpc" if protocol.is_grpc else "text/csv")
    answer = composed(protocol, Fallback(static, Why.DEADLINE, 50.0, 0.0))
    assert told(answer) == "bert;elapsed=50.0;why=fallback;left=0.0"
    if protocol.is_grpc:
        assert (answer.body, answer.trailers) == (b"\0\0\0\0\5fixed", (("grpc-status", b"0"),))
    else:
        assert (answer.status, answer.body, answer.headers[0]) == (200, b"fixed", ("content-type", b"text/csv"))
