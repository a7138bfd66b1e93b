"""traceparent and tracestate: what is understood, what is not there for us, and that nothing of it can do harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.trace_context import MOST_STATE, TraceContext, read_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_what_is_read_is_written_again() -> None:
    found = read_context({"traceparent": GOOD, "tracestate": "a=1,b=2"})
    assert found == TraceContext(int(TRACE, 16), int(SPAN, 16), 1, "a=1,b=2")
    assert found.sampled
    assert found.headers() == (("traceparent", GOOD.encode()), ("tracestate", b"a=1,b=2"))


@pytest.mark.parametrize(("flags", "kept"), [("00", 0), ("02", 2), ("03", 3), ("ff", 3)])
def test_of_the_flags_those_that_mean_something_are_kept(flags: str, kept: int) -> None:
    found = read_context({"traceparent": GOOD[:-2] + flags})
    assert found is not None
    assert (found.flags, found.sampled) == (kept, bool(kept & 1))


@pytest.mark.parametrize("text", ["01-" + GOOD[3:], "cc-" + GOOD[3:] + "-what-may-come"])
def test_a_later_version_is_read_as_far_as_it_is_known(text: str) -> None:
    assert read_context({"traceparent": text}) == read_context({"traceparent": GOOD})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-00",
        "ff-" + GOOD[3:],
        "cc-" + GOOD[3:] + "x",
        GOOD.upper(),
        GOOD.replace("-", "_"),
        "0x" + GOOD[2:],
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-+1",
        f"00-{TRACE[:-1]}\u0663-{SPAN}-01",
        f"{GOOD}, {GOOD}",
        GOOD * 100_000,
        " " + GOOD,
    ],
)
def test_what_is_no_traceparent_is_as_if_it_were_not_there(text: str) -> None:
    assert read_context({"traceparent": text}) is None


def test_without_one_a_tracestate_says_nothing() -> None:
    assert read_context({"tracestate": "a=1"}) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=" + "1" * 253 + ",b=" + "1" * 254, True),
        ("a=" + "1" * 253 + ",b=" + "1" * 255, False),
        ("a=" + "1" * 257, False),
        ("4@b=1,c/d=x y", True),
        ("a=1,a=2", False),
        ("a=1,b", False),
        ("A=1", False),
        ("a=1=2", False),
        (",".join(f"k{n}=1" for n in range(32)), True),
        (",".join(f"k{n}=1" for n in range(33)), False),
        ("a=\x7f", False),
        ("a=\r\nx: y", False),
        ("ä=1", False),
    ],
)
def test_a_tracestate_goes_on_as_it_is_or_not_at_all(state: str, kept: bool) -> None:
    found = read_context({"traceparent": GOOD, "tracestate": state})
    assert found is not None
    assert found.state == (state if kept else "")
    assert len("a=" + "1" * 253 + ",b=" + "1" * 254) == MOST_STATE


def test_a_tracestate_of_several_lines_is_one() -> None:
    found = read_context({"traceparent": GOOD, "tracestate": "a=1, b=2\t,,c=3"})
    assert found is not None
    assert found.state == "a=1,b=2,c=3"


@given(st.text(alphabet="0123456789abcdef-fFgG\u0663 ,", min_size=50, max_size=60) | st.text(), st.text())
def test_whatever_comes_is_read_as_it_is_written_or_not_at_all(parent: str, state: str) -> None:
    found = read_context({"traceparent": parent, "tracestate": state})
    if found is not None:
        assert found.trace_id
        assert found.span_id
        written = {name: value.decode("ascii") for name, value in found.headers()}
        assert read_context(written) == found
