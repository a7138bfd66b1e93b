from contextlib import suppress

import http_sfv
import hypothesis.strategies as st
import pytest
from hypothesis import given

from ext_proc.broker.deadline import (
    NOTHING,
    CallOptions,
    TimeLimit,
    read_backup,
    read_grpc_timeout,
    read_options,
    read_tloc,
)
from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix
from ext_proc.errors import CallError, Reason


def refused(**headers: str) -> str:
    with pytest.raises(CallError) as caught:
        read_options(**headers)
    assert caught.value.reason is Reason.INVALID
    return caught.value.message


def test_the_headers_of_the_design_page() -> None:
    ask = read_options(
        tloc="50;est=35;cross-request=1;cross-lag=10;priority=0;answer=best",
        backup="svm;est=25, (bayes;est=15 keysearch;est=5);mix=avg",
        primary="(embedding;est=35 svm;est=25);mix=max",
        key="user-17",
    )
    assert ask.limit == TimeLimit(50, 35, True, 10, 0, AnswerMode.BEST)
    assert ask.backups == (
        Candidate("svm", estimate_ms=25),
        Mix((Candidate("bayes", estimate_ms=15), Candidate("keysearch", estimate_ms=5)), How.AVG),
    )
    assert ask.primary == Mix((Candidate("embedding", estimate_ms=35), Candidate("svm", estimate_ms=25)), How.MAX)
    assert ask.key == "user-17"


def test_no_header_asks_for_nothing() -> None:
    assert read_options() is NOTHING
    assert not NOTHING.races
    assert not CallOptions(key="a", grpc_timeout_ms=5).races


def test_what_a_header_leaves_out_is_left_to_the_settings() -> None:
    assert read_tloc("12.5") == TimeLimit(12.5, None, None, None, None, None)
    assert read_tloc("0").tloc_ms == 0  # passed on arrival: no error of the header
    assert read_tloc("9;cross-request=0").cross_request is False


def test_lines_of_one_header_are_one_list() -> None:
    assert len(read_backup("svm, (a b);mix=avg, c")) == 3


def test_versions_labels_and_odd_names() -> None:
    assert read_backup('a;version=3, b;label=stable, "1st-model", c;version=3;est=2.5') == (
        Candidate("a", version="3"),
        Candidate("b", label="stable"),
        Candidate("1st-model"),
        Candidate("c", version="3", estimate_ms=2.5),
    )


@pytest.mark.parametrize(
    ("header", "text", "says"),
    [
        ("tloc", "-5", "value is a number of milliseconds from 0"),
        ("tloc", "soon", "value is a number of milliseconds from 0"),
        ("tloc", "9999999", "value is a number of milliseconds from 0 to 3600000"),
        ("tloc", "50, 60", "does not parse"),
        ("tloc", "", "does not parse"),
        ("tloc", "50;budget=1", "parameter 'budget' is not one of"),
        ("tloc", "50;est=-1", "est is a number from 0"),
        ("tloc", "50;est=fast", "est is a number from 0"),
        ("tloc", "50;cross-request=2", "cross-request is 0 or 1"),
        ("tloc", "50;cross-lag=-1", "cross-lag is a number from 0"),
        ("tloc", "50;priority=1.5", "priority is a whole number"),
        ("tloc", "50;priority=1001", "priority is a whole number from -1000 to 1000"),
        ("tloc", "50;answer=any", "answer is best or first"),
        ("backup", "svm, (a b", "member 2 (at character 5) does not parse"),
        ("backup", "svm,,a", "member 2 (at character 5) does not parse"),
        ("backup", 'svm, "a', "member 2 (at character 5) does not parse"),
        ("backup", 'svm;label="a,b, c", ?, d', "member 2 (at character 20) does not parse"),
        ("backup", "svm,", "member 2 (at character 5) does not parse"),
        ("backup", "svm, 5", "member 2 is no model name"),
        ("backup", 'svm, "../x"', "member 2 is no model name"),
        ("backup", "svm, a/b", "member 2 is no model name"),
        ("backup", 'svm, ".."', "member 2 is no model name"),
        ("backup", "svm;est=-5", "member 1 (svm): est is a number from 0"),
        ("backup", "svm;speed=5", "member 1 (svm): parameter 'speed' is not one of est, label, version"),
        ("backup", "svm;w=5", "member 1 (svm): parameter 'w' is not one of"),
        ("backup", "svm;version=-1", "version is a whole number"),
        ("backup", "svm;version=1;label=a", "version and label exclude each other"),
        ("backup", "(a b)", "member 1: a mix says mix=max or mix=avg"),
        ("backup", "(a b);mix=min", "member 1: a mix says mix=max or mix=avg"),
        ("backup", "(a b);mix=5", "member 1: a mix says mix=max or mix=avg"),
        ("backup", "(a b);mix=max;est=3", "member 1: parameter 'est' is not one of mix"),
        ("backup", "c, ();mix=max", "member 2: a mix has at least one member"),
        ("backup", "c, (a;w=0 b);mix=avg", "member 2.1 (a): w is over 0"),
        ("backup", "a" * 3000, "at most 2048 are read"),
        ("backup", "modèle", "does not parse"),
        ("primary", "svm", "value is one inner list"),
        ("primary", "(a b);mix=max, c", "value is one inner list"),
        ("key", "17-user", "Quote it"),
        ("key", "?1", "value is a token, a string or a number"),
        ("key", '""', "value is a token, a string or a number"),
    ],
)
def test_bad_headers_name_the_header_the_place_and_the_rule(header: str, text: str, says: str) -> None:
    message = refused(**{header: text})
    assert message.startswith(f"Header {'tbms-key' if header == 'key' else header}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("50m", 50), ("1500u", 1.5), ("99999999n", 99.999999)],
)
def test_grpc_timeout_units(text: str, ms: float) -> None:
    assert read_grpc_timeout(text) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["", "m", "5", "-5m", "123456789m", "5 m", "5s", "٣m", "1.5S"])
def test_bad_grpc_timeout(text: str) -> None:
    assert "grpc-timeout" in refused(grpc_timeout=text)


names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}", fullmatch=True)
estimates = st.none() | st.integers(0, 10_000_000).map(lambda n: n / 1000)
candidates = st.builds(Candidate, names, st.none() | st.integers(0, 10**12).map(str), st.none(), estimates)
weighted = st.builds(Candidate, names, st.none(), st.none() | names, estimates, st.integers(1, 10**6).map(float))
mixes = st.builds(Mix, st.lists(weighted, min_size=1, max_size=4).map(tuple), st.sampled_from(How))


def written(target: Candidate | Mix) -> object:
    """The target as another writer of structured fields writes it."""
    if isinstance(target, Mix):
        inner = http_sfv.InnerList([written(member) for member in target.members])
        inner.params["mix"] = http_sfv.Token(target.how)
        return inner
    item = http_sfv.Item(http_sfv.Token(target.model))
    if target.version is not None:
        item.params["version"] = int(target.version)
    if target.label is not None:
        item.params["label"] = target.label
    if target.estimate_ms is not None:
        item.params["est"] = target.estimate_ms
    if target.weight != 1:
        item.params["w"] = target.weight
    return item


@given(st.lists(candidates | mixes, min_size=1, max_size=5))
def test_what_is_written_is_read(targets: list[Candidate | Mix]) -> None:
    assert read_backup(str(http_sfv.List([written(one) for one in targets]))) == tuple(targets)


@given(
    st.text(st.sampled_from('abm1=;,() "\\?:@%.-5*xest')) | st.text(),
    st.sampled_from(["tloc", "backup", "primary", "key", "grpc_timeout"]),
)
def test_any_text_is_read_or_refused(text: str, header: str) -> None:
    with suppress(CallError):  # any other error fails the test
        assert isinstance(read_options(**{header: text}), CallOptions)
