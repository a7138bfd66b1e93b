"""Calls of the V2 REST API: what their paths name, and how they name another model."""

from urllib.parse import quote

import pytest
from hypothesis import given

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.naming import name_call
from ext_proc.wire.rewrite import swap_path
from tests.ext_proc.wire.messages import (
    GOOD_NAMES,
    LIMIT,
    VERSIONS,
    by_path,
)

V2 = InferenceProtocol.V2_REST


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v2/models/m/infer", Call(V2, Verb.INFER, "m")),
        ("/v2/models/m/versions/7/infer", Call(V2, Verb.INFER, "m", version="7")),
        ("/v2/models/m/ready", Call(V2, Verb.READY, "m")),
        ("/v2/models/m/config", Call(V2, Verb.CONFIG, "m")),
        ("/v2/models/m/stats", Call(V2, Verb.STATISTICS, "m")),
        ("/v2/models/m", Call(V2, Verb.METADATA, "m")),
        ("/v2/models/m/versions/7", Call(V2, Verb.METADATA, "m", version="7")),
        ("/v2/models/m/generate", Call(V2, Verb.STREAM_INFER, "m")),
        ("/v2/models/m/generate_stream", Call(V2, Verb.STREAM_INFER, "m")),
        ("/v2/models/stats/infer", Call(V2, Verb.INFER, "stats")),
        ("/v2/models/m/infer?a=b", Call(V2, Verb.INFER, "m")),
    ],
)
def test_a_rest_path_names_its_call(path: str, call: Call) -> None:
    assert by_path(path) == call
    assert by_path(path, "GET") == call, "the node judges the HTTP method"


@given(GOOD_NAMES, VERSIONS)
def test_any_name_survives_a_rest_path(name: str, version: int) -> None:
    path = f"/v2/models/{quote(name, safe='')}/versions/{version}/infer"
    assert by_path(path) == Call(V2, Verb.INFER, name, str(version))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v2/models//infer", "model name is empty"),
        ("/v2/models/", "model name is empty"),
        ("/v2/models/../infer", "'..'"),
        ("/v2/models/a%2Fb/infer", "holds a '/'"),
        ("/v2/models/%2E%2E/infer", "'..'"),
        ("/v2/models/m/versions/x/infer", "model version 'x'"),
        ("/v2/models/m/versions//infer", "model version ''"),
    ],
)
def test_a_path_that_cannot_be(path: str, says: str) -> None:
    with pytest.raises(CallError) as caught:
        by_path(path)
    assert caught.value.reason is Reason.INVALID
    assert says in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("path", "swapped"),
    [
        ("/v2/models/m/infer", "/v2/models/n/versions/2/infer"),
        ("/v2/models/m/versions/7/infer?x=1", "/v2/models/n/versions/2/infer?x=1"),
        ("/v2/models/m/generate_stream", "/v2/models/n/versions/2/generate_stream"),
        ("/v2/models/versions/infer", "/v2/models/n/versions/2/infer"),
        ("/v2/models/m", "/v2/models/n/versions/2"),
    ],
)
def test_a_path_for_another_model(path: str, swapped: str) -> None:
    call = name_call({":path": path}, LIMIT)
    assert isinstance(call, Call)
    assert swap_path(call, path, "n", "2", None) == swapped


def test_v2_rest_has_no_labels() -> None:
    call = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
    with pytest.raises(CallError, match="no version labels, so 'canary' of 'n'"):
        swap_path(call, "/v2/models/m/infer", "n", None, "canary")
