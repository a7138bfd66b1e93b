import contextlib
from typing import Any

import pytest
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.access_log.entries import MAX_ENTRIES, MAX_MESSAGE, LogError, check_log, read_calls, read_message
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from tests.ext_proc.access_log.messages import entry, message

BERT = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "bert")
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def read(*entries):
    return read_calls(read_message(message(*entries))).ended


def test_an_entry_says_what_was_asked_of_whom_and_for_how_long() -> None:
    (call,) = read(entry())
    assert (call.call, call.node, call.known) == (BERT, "10.0.0.1:8501", True)
    assert call.seconds == pytest.approx(0.020)
    assert call.answer_seconds == pytest.approx(0.020)


def test_the_time_to_an_answer_counts_from_the_whole_request() -> None:
    (call,) = read(entry(first_ms=1, whole_ms=15, last_ms=21))
    assert call.seconds == pytest.approx(0.020)
    assert call.answer_seconds == pytest.approx(0.006)


@pytest.mark.parametrize(("key", "known"), [("tbms-known", [True]), ("tbms-nodes", [False]), (None, []), ("else", [])])
def test_the_metadata_tell_who_named_the_node(key: str | None, known: list[bool]) -> None:
    assert [each.known for each in read(entry(key=key))] == known


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({}, 1),
        ({"one_in": "16"}, 16),
        ({"one_in": "1000000"}, 16),  # how many they are is our own word, and no longer that of a file
        ({"one_in": "16", "status": 0}, 16),  # its caller has left
        ({"one_in": "16", "status": 503}, 1),  # of those all are told
        ({"one_in": "16", "path": PREDICT, "model": "bert", "grpc_status": "0"}, 16),
        ({"one_in": "16", "path": PREDICT, "model": "bert", "grpc_status": "14"}, 1),
        ({"one_in": "16", "key": "tbms-nodes"}, 1),
    ],
)
def test_an_entry_stands_for_the_calls_that_are_not_told_of(fields: dict, calls: int) -> None:
    assert [call.stands_for for call in read(entry(**fields))] == [calls]


def test_a_grpc_call_without_a_name_needs_a_status_to_have_succeeded() -> None:
    assert [call.answer_seconds for call in read(entry(PREDICT, status=200))] == [None]


@pytest.mark.parametrize("kind", [AccessLogType.DownstreamStart, AccessLogType.DownstreamPeriodic])
def test_only_ends_count(kind: AccessLogType) -> None:
    assert read(entry(kind=kind)) == []


def running(*entries):
    return read_calls(read_message(message(*entries))).running


def test_known_calls_that_run_are_told_of() -> None:
    runs = AccessLogType.DownstreamPeriodic
    assert running(entry(kind=runs, status=0, last_ms=None), entry()) == [BERT]
    assert running(entry(PREDICT, model="bert", kind=runs)) == [
        Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "bert"),
    ]
    assert running(entry(kind=runs, key="tbms-nodes"), entry(kind=runs, key=None), entry("/", kind=runs)) == []


@pytest.mark.parametrize(
    ("said", "lacking"),
    [
        ({"status": 200}, False),
        ({"status": 400}, False),
        ({"status": 500}, False),
        ({"status": 404}, True),
        ({"status": 503}, True),
        ({"status": 0}, False),
        ({"path": PREDICT, "model": "bert", "grpc_status": "0"}, False),
        ({"path": PREDICT, "model": "bert", "grpc_status": "3"}, False),
        ({"path": PREDICT, "model": "bert", "grpc_status": "5"}, True),
        ({"path": PREDICT, "model": "bert", "grpc_status": "14", "trailers_only": True}, True),
        ({"path": PREDICT, "model": "bert", "status": 503}, True),
    ],
)
def test_calls_that_ended_as_where_their_model_is_not_there(said: dict[str, Any], lacking: bool) -> None:
    (call,) = read(entry(**said))
    assert call.lacking is lacking


@pytest.mark.parametrize(
    ("path", "header", "model"),
    [
        (PREDICT, "bert", "bert"),
        (PREDICT, "bert/versions/3", "bert"),
        (PREDICT, "caf%C3%A9", "café"),
        (PREDICT, None, None),
        (PREDICT, "bert/what/3", None),
        ("/v2/models/svm/infer", None, "svm"),
        ("/v1/models/b%C3%A9rt:predict", None, "bért"),
        ("/v1/models/bert:predict", "other", "bert"),
        ("/elsewhere", None, None),
        ("", None, None),
    ],
)
def test_path_and_header_name_the_model(path: str, header: str | None, model: str | None) -> None:
    (call,) = read(entry(path, model=header))
    assert (call.call and call.call.model) == model


@pytest.mark.parametrize(
    ("fields", "succeeded"),
    [
        ({"grpc_status": "0"}, True),
        ({"grpc_status": "0", "trailers_only": True}, True),
        ({"grpc_status": "14"}, False),
        ({"grpc_status": "14", "trailers_only": True}, False),
        ({}, False),  # a gRPC reply without a status is none
    ],
)
def test_a_grpc_call_has_succeeded_if_its_status_says_so(fields: dict, succeeded: bool) -> None:
    (call,) = read(entry(PREDICT, model="bert", **fields))
    assert (call.answer_seconds is not None) is succeeded


def test_a_failed_call_was_there_all_the_same() -> None:
    (call,) = read(entry(status=503))
    assert (call.answer_seconds, round(call.seconds, 6)) == (None, 0.02)


def test_a_call_that_nobody_took_kept_no_node_busy() -> None:
    (call,) = read(entry(status=503, node=None, first_ms=None, last_ms=None))
    assert (call.node, call.seconds, call.answer_seconds) == ("", 0.0, None)


def test_a_cancelled_call_was_there_until_its_caller_left() -> None:
    (call,) = read(entry(status=0, last_ms=None, duration_ms=101))
    assert (call.answer_seconds, round(call.seconds, 6)) == (None, 0.1)


def test_ipv6_is_written_as_envoy_prints_it() -> None:
    (call,) = read(entry(node=("fd00::3", 8500)))
    assert call.node == "[fd00::3]:8500"


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x12\x7f", b"\x12\x02\x0a\x05"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(LogError):
        read_message(data)


def test_too_many_bytes_are_refused() -> None:
    one = message(entry(f"/v1/models/{'m' * 100}:predict"), name=None)
    entries = MAX_MESSAGE // len(one) + 1
    assert entries < MAX_ENTRIES
    with pytest.raises(LogError, match="limit of 262144 bytes"):
        read_message(one * entries)
    assert len(read_calls(read_message(one * (entries - 1))).ended) == entries - 1


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(LogError, match="1025 entries"):
        read_message(b"\x12\x82\x10" + b"\x0a\x00" * 1025)


@pytest.mark.parametrize("name", [None, "other", ""])
def test_another_log_is_refused(name: str | None) -> None:
    with pytest.raises(LogError, match="not 'tbms-calls'"):
        check_log(read_message(message(entry(), name=name)))
    check_log(read_message(message()))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(LogError):
        read_calls(read_message(data))


MILLISECONDS = st.integers(0, 10**10).map(lambda micros: micros / 1000)


@given(
    key=st.sampled_from(["tbms-known", "tbms-nodes", None]),
    status=st.integers(0, 999),
    first=st.none() | MILLISECONDS,
    last=st.none() | MILLISECONDS,
    whole=MILLISECONDS,
    duration=MILLISECONDS,
    header=st.text(st.characters(codec="latin-1", exclude_characters="\0\r\n"), max_size=40),
    path=st.sampled_from([PREDICT, "/v1/models/bert:predict"]),
)
def test_whatever_envoy_says_times_are_sane(key, status, first, last, whole, duration, header, path) -> None:
    calls = read(
        entry(
            path, model=header, key=key, status=status, first_ms=first, last_ms=last, whole_ms=whole,
            duration_ms=duration,
        )
    )  # fmt: skip
    assert len(calls) == (key is not None)
    for call in calls:
        assert call.known is (key == "tbms-known")
        ended = (last or 0.0) if status else duration
        assert call.seconds == pytest.approx(max(0.0, ended - first) / 1000 if first else 0.0, abs=2e-6)
        if call.answer_seconds is not None:
            assert (status, path == PREDICT) == (200, False)
            assert call.answer_seconds == pytest.approx(max(0.0, ended - max(first or 0.0, whole)) / 1000, abs=2e-6)


@pytest.mark.parametrize(
    ("fields", "answered"),
    [
        ({}, True),
        ({"status": 404}, True),
        ({"status": 503}, False),
        ({"status": 502}, False),
        ({"status": 504}, None),
        ({"status": 0}, None),
        ({"grpc_status": "0"}, True),
        ({"grpc_status": "5", "trailers_only": True}, True),
        ({"grpc_status": "14", "trailers_only": True}, False),
        ({"grpc_status": "4"}, None),
        ({"grpc_status": "what"}, True),
    ],
)
def test_a_call_to_another_zone_tells_whether_its_node_was_there(fields: dict, answered: bool | None) -> None:
    (call,) = read(entry(key="tbms-nodes", nodes="@node-c", **fields))
    assert (call.far, call.answered, call.known) == ("node-c", answered, False)
    (near,) = read(entry(key="tbms-nodes", **fields))
    assert (near.far, near.answered) == ("", None)
