"""What nodes are told of a call: written and read, merged with the caller's own headers, and hostile values."""

import math

import http_sfv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.batching.terms import NO_TERMS, Terms, read_terms, remaining_seconds, write_terms
from ext_proc.contract import CALL_HEADER
from ext_proc.errors import CallError, Reason

MS = st.integers(0, 3_600_000_000).map(lambda micros: micros / 1000)
TOKENS = st.from_regex(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,63}", fullmatch=True)
TERMS = st.builds(
    Terms,
    limit_ms=MS | st.just(math.inf),
    lag_ms=st.none() | MS,
    shares=st.none() | st.booleans(),
    priority=st.integers(-1000, 1000),
    rank=st.integers(0, 999),
    race=st.none() | TOKENS,
)


@given(TERMS)
def test_what_is_written_is_read(terms: Terms) -> None:
    assert read_terms({CALL_HEADER: write_terms(terms)}) == terms


@given(TERMS)
def test_what_is_written_is_a_structured_field(terms: Terms) -> None:
    item = http_sfv.Item()
    item.parse(write_terms(terms).encode())
    value = math.inf if isinstance(item.value, http_sfv.Token) else float(item.value)
    params = dict(item.params)
    lag = params.pop("lag", None)
    race = params.pop("race", None)
    assert race is None or isinstance(race, http_sfv.Token)
    read = Terms(
        value,
        None if lag is None else float(lag),
        params.pop("share", None),
        params.pop("priority", 0),
        params.pop("rank", 0),
        None if race is None else str(race),
    )
    assert (read, params) == (terms, {})


@pytest.mark.parametrize(
    ("limit_ms", "written"),
    [(-3.0, "0"), (0.0004, "0"), (37.4126, "37.413"), (100.0, "100"), (1e9, "3600000"), (math.inf, "none")],
)
def test_a_limit_is_written_within_what_is_read(limit_ms: float, written: str) -> None:
    assert write_terms(Terms(limit_ms)) == written


@pytest.mark.parametrize(
    ("headers", "terms"),
    [
        ({}, NO_TERMS),
        ({"x-tbms-call": "40; share;priority=-2"}, Terms(40, shares=True, priority=-2)),
        ({"x-tbms-call": "40; share=?1; lag=0;race=a;rank=2"}, Terms(40, 0.0, True, 0, 2, "a")),
        ({"x-tbms-call": "none;colour=blue;share=?0;shape"}, Terms(shares=False)),
        ({"tloc": "50;est=35;cross-request=1;cross-lag=10;priority=4"}, Terms(50, 10.0, True, 4)),
        ({"tloc": "50;cross-request=0"}, Terms(50, None, False)),
        # The edge has read the client's `tloc`, and told what is left of it.
        ({"x-tbms-call": "31.5;lag=3", "tloc": "50;cross-lag=10"}, Terms(31.5, 3.0)),
        ({"x-tbms-call": "31.5", "tloc": "what an edge of another rule has taken"}, Terms(31.5)),
        # Deadlines bound every call, whoever says what else.
        ({"grpc-timeout": "2S"}, Terms(2000.0)),
        ({"tloc": "900;priority=1", "grpc-timeout": "800m"}, Terms(800.0, priority=1)),
        ({"x-tbms-call": "none;race=r1", "x-envoy-expected-rq-timeout-ms": "1500"}, Terms(1500.0, race="r1")),
        ({"x-tbms-call": "20", "grpc-timeout": "22m"}, Terms(20.0)),
        ({"x-envoy-expected-rq-timeout-ms": "soon"}, NO_TERMS),
        ({"x-tbms-call": "0"}, Terms(0.0)),
    ],
)
def test_headers_are_merged(headers: dict[str, str], terms: Terms) -> None:
    assert read_terms(headers) == terms


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "value is a number of milliseconds"),
        ("soon", "value is a number"),
        ("-1", "value is a number"),
        ("1e3", "value is a number"),
        ("nan", "value is a number"),
        ("inf", "value is a number"),
        ("1_000", "value is a number"),
        ("٤٠", "value is a number"),
        ("3600001", "from 0 to 3600000"),
        ("9" * 400, "value is a number"),
        ("40, 41", "value is a number"),
        ("40;lag", "lag is a number"),
        ("40;lag=", "lag is a number"),
        ("40;lag=-1", "lag is a number"),
        ("40;lag=3600001", "lag is a number"),
        ("40;share=1", "share is ?0 or ?1"),
        ("40;share=", "share is ?0 or ?1"),
        ("40;priority", "priority is a whole number from -1000 to 1000"),
        ("40;priority=-", "priority is a whole number"),
        ("40;priority=--1", "priority is a whole number"),
        ("40;priority=1001", "priority is a whole number"),
        ("40;priority=1.5", "priority is a whole number"),
        ("40;rank=-1", "rank is a whole number from 0 to 999"),
        ("40;rank=1000", "rank is a whole number"),
        ("40;race=", "race is a token"),
        ("40;race=7", "race is a token"),
        ("40;share;race=a b", "race is a token"),
        ("40;race=" + "r" * 65, "race is a token"),
        ("40;race=r;" + "x" * 600, "at most 512 are read"),
    ],
)
def test_what_cannot_be_read_is_the_callers_fault_and_names_the_header(value: str, says: str) -> None:
    with pytest.raises(CallError) as refused:
        read_terms({CALL_HEADER: value})
    assert refused.value.reason is Reason.INVALID
    assert str(refused.value).startswith("Header x-tbms-call: ")
    assert says in str(refused.value)
    # Where the call is not batched it is no fault.
    assert remaining_seconds({CALL_HEADER: value, "grpc-timeout": "2S"}) == 2.0


@pytest.mark.parametrize(
    ("headers", "header"),
    [({"tloc": "soon"}, "tloc"), ({"tloc": "5;cross-lag=x"}, "tloc"), ({"grpc-timeout": "5"}, "grpc-timeout")],
)
def test_a_batched_call_is_refused_for_the_callers_own_headers_too(headers: dict[str, str], header: str) -> None:
    with pytest.raises(CallError, match=f"Header {header}: ") as refused:
        read_terms(headers)
    assert refused.value.reason is Reason.INVALID


@given(st.text(max_size=600))
def test_any_text_is_read_or_refused(value: str) -> None:
    try:
        terms = read_terms({CALL_HEADER: value})
    except CallError:
        return
    assert terms.limit_ms >= 0
    assert read_terms({CALL_HEADER: write_terms(terms)}) == terms


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, math.inf),
        ({"tloc": "50;est=35"}, 0.05),
        ({"tloc": "0"}, 0.0),
        ({"grpc-timeout": "2S"}, 2.0),
        ({"x-envoy-expected-rq-timeout-ms": "1500"}, 1.5),
        ({"x-tbms-call": "40;share"}, 0.04),
        ({"x-tbms-call": "none", "tloc": "900"}, 0.9),
        ({"tloc": "900", "grpc-timeout": "800m", "x-envoy-expected-rq-timeout-ms": "1500"}, 0.8),
        ({"tloc": "soon", "grpc-timeout": "2S"}, 2.0),
        ({"grpc-timeout": "soon", "x-envoy-expected-rq-timeout-ms": "-1"}, math.inf),
        ({"x-envoy-expected-rq-timeout-ms": "9" * 400}, math.inf),
    ],
)
def test_a_call_that_is_not_batched_waits_for_the_least_of_what_can_be_read(
    headers: dict[str, str], seconds: float
) -> None:
    assert remaining_seconds(headers) == pytest.approx(seconds)
