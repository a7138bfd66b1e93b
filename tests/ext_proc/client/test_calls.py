"""What the helpers write is what the server reads, and nothing that it would refuse."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.broker import plan
from ext_proc.broker.deadline import read_options
from ext_proc.broker.session_header import read_session
from ext_proc.client import CallHeaders, ClientError, Mix, Model, tbms_mix_try, tbms_try
from tests.ext_proc.known.test_map_file import NAMES

TEXTS = st.text(max_size=20)
MS = st.one_of(st.none(), st.integers(-5, 5000), st.floats(-5, 5000, allow_nan=False), st.floats())
MODELS = st.builds(
    Model,
    name=st.one_of(NAMES, TEXTS),
    est=MS,
    version=st.one_of(st.none(), st.integers(-1, 10**15)),
    label=st.one_of(st.none(), TEXTS),
    weight=st.floats(0, 100),
)
MIXES = st.builds(Mix, st.lists(MODELS, max_size=3), st.sampled_from(["max", "avg"]))
RANKS = st.lists(st.one_of(MODELS, MIXES, NAMES), max_size=3)


def server_reads(call: CallHeaders) -> Any:
    told = call.headers
    return read_options(
        tloc=told.get("tloc"), backup=told.get("backup"), primary=told.get("primary"), key=told.get("tbms-key")
    )


def test_the_seeds_example_in_todays_headers() -> None:
    call = tbms_try(
        {"embedding": 35, "svm": 25, "bayes": 15, "keysearch": 5}, tloc=50, cross_request=True, cross_lag=10, priority=0
    )
    assert call.model == "embedding"
    assert call.headers == {
        "tloc": "50;est=35;cross-request=1;cross-lag=10;priority=0",
        "backup": "svm;est=25, bayes;est=15, keysearch;est=5",
    }
    assert call.metadata == tuple(call.headers.items())


def test_a_mix_as_primary_and_as_backup() -> None:
    call = tbms_mix_try(
        {"embedding": 35, "svm": 25}, [Mix([Model("bayes", 15, weight=2), Model("keysearch")])], how="max", tloc=50.5
    )
    assert call.model == "embedding"
    assert call.headers == {
        "tloc": "50.5",
        "primary": "(embedding;est=35 svm;est=25);mix=max",
        "backup": "(bayes;est=15;w=2 keysearch);mix=avg",
    }
    assert tbms_try([Mix([Model("a"), Model("b")])], tloc=5).headers["primary"] == "(a b);mix=avg"


def test_keys_and_sessions() -> None:
    call = tbms_try(["bert"], key="user 17", session="chat-9", last=True)
    assert call.headers == {"tbms-key": '"user 17"', "tbms-session": "chat-9;end"}
    assert read_session(call.headers["tbms-session"]) == ("chat-9", True)
    assert tbms_try(["bert"], key=17).headers == {"tbms-key": "17"}


@given(RANKS, MS, st.one_of(st.none(), TEXTS), st.one_of(st.none(), TEXTS))
def test_whatever_is_written_is_read_as_it_was_meant(ranks: Any, tloc: Any, key: Any, session: Any) -> None:
    try:
        call = tbms_try(ranks, tloc=tloc, key=key, session=session)
    except ClientError:
        return
    assert all(value.isascii() and value.isprintable() for value in call.headers.values())
    read = server_reads(call)
    assert read.key == key
    assert (read.limit is None) is (tloc is None)
    if tloc is not None:
        assert read.limit.tloc_ms == pytest.approx(tloc, abs=0.001)
    if session is not None:
        assert read_session(call.headers["tbms-session"]) == (session, False)
    asked = [Model(each) if isinstance(each, str) else each for each in ranks]
    if isinstance(asked[0], Mix):
        assert names(read.primary) == [model.name for model in asked[0].models]
    else:
        assert call.model == asked[0].name
    expected = [[each.name] if isinstance(each, Model) else [m.name for m in each.models] for each in asked[1:]]
    assert [names(target) for target in read.backups or ()] == expected


def names(target: plan.RankedTarget | None) -> list[str]:
    assert target is not None
    return [one.model for one in plan.members(target)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tbms_try([]), "models: at least one"),
        (lambda: tbms_try("bert"), "models: several names"),
        (lambda: tbms_mix_try([]), "models: at least one"),
        (lambda: tbms_mix_try([Mix([Model("a")])]), "a member of a mix is one model"),
        (lambda: tbms_try([Model("a", version=3)], tloc=5), "say its version or label there"),
        (lambda: tbms_try({"a": 5}), "tloc: est can only be said with a limit"),
        (lambda: tbms_try({"a": 60}, tloc=50), r"est of a: 60 ms is over the limit of 50 ms"),
        (lambda: tbms_try(["a", Model("b", 60)], tloc=50), r"est of b: 60 ms"),
        (lambda: tbms_try(["a"], tloc=-1), "Header tloc: value is a number of milliseconds"),
        (lambda: tbms_try(["a"], tloc=float("nan")), "tloc: a number is expected"),
        (lambda: tbms_try(["a"], tloc=5, priority=5000), "Header tloc: value: priority"),
        (lambda: tbms_try(["a", "b/c"], tloc=5), "Header backup: member 1 is no model name"),
        (lambda: tbms_try(["a", Model("b", version=1, label="x")]), "version and label exclude"),
        (lambda: tbms_try(["a"], key="x" * 300), "Header tbms-key"),
        (lambda: tbms_try(["a"], session=""), "Header tbms-session"),
        (lambda: tbms_try(["a"], last=True), "last: only a call of a session"),
        (lambda: tbms_try(["a", *"b" * 3000]), "Header backup"),
        (lambda: tbms_try(["a", "b\n"], tloc=5), "backups: cannot be written as a header"),
    ],
)
def test_what_the_server_would_refuse_is_refused_here(call: Any, says: str) -> None:
    with pytest.raises(ClientError, match=says):
        call()


def test_the_helpers_need_http_sfv_alone() -> None:
    """In an interpreter that finds nothing else outside of the standard library and of this project."""
    program = """
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in sys.stdlib_module_names and root not in ("ext_proc", "mesh", "http_sfv", "typing_extensions"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Only())
import ext_proc.client
print(ext_proc.client.tbms_try({"a": 5}, tloc=9).headers["tloc"])
assert not [name for name in sys.modules if name.startswith(("ext_proc.edge", "ext_proc.server", "mesh.routing"))]
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("9;est=5\n", "")
