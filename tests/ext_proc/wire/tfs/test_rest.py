"""Calls of TF Serving's REST API: what their paths name, and how they name another model."""

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

TFS = InferenceProtocol.TFS_REST


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/models/m:predict", Call(TFS, Verb.PREDICT, "m")),
        ("/v1/models/m:classify", Call(TFS, Verb.CLASSIFY, "m")),
        ("/v1/models/m:regress", Call(TFS, Verb.REGRESS, "m")),
        ("/v1/models/m/versions/7:predict", Call(TFS, Verb.PREDICT, "m", version="7")),
        ("/v1/models/m/labels/canary:predict", Call(TFS, Verb.PREDICT, "m", label="canary")),
        ("/v1/models/m", Call(TFS, Verb.STATUS, "m")),
        ("/v1/models/m/versions/7", Call(TFS, Verb.STATUS, "m", version="7")),
        ("/v1/models/m/labels/canary", Call(TFS, Verb.STATUS, "m", label="canary")),
        ("/v1/models/m/metadata", Call(TFS, Verb.METADATA, "m")),
        ("/v1/models/m/versions/7/metadata", Call(TFS, Verb.METADATA, "m", version="7")),
        ("/v1/models/m/labels/canary/metadata", Call(TFS, Verb.METADATA, "m", label="canary")),
        # TF Serving's regular expressions: case does not count, and these names are names.
        ("/V1/Models/M/Versions/7:PREDICT", Call(TFS, Verb.PREDICT, "M", version="7")),
        ("/v1/models/metadata", Call(TFS, Verb.STATUS, "metadata")),
        ("/v1/models/m/labels/metadata", Call(TFS, Verb.STATUS, "m", label="metadata")),
        ("/v1/models/m%3Apredict", Call(TFS, Verb.STATUS, "m:predict")),
        ("/v1/models/a%20b:predict?x=/v2", Call(TFS, Verb.PREDICT, "a b")),
        ("/v1/models/%C3%A9:predict", Call(TFS, Verb.PREDICT, "é")),
    ],
)
def test_a_rest_path_names_its_call(path: str, call: Call) -> None:
    assert by_path(path) == call
    assert by_path(path, "GET") == call, "the node judges the HTTP method"


@given(GOOD_NAMES, VERSIONS)
def test_any_name_survives_a_rest_path(name: str, version: int) -> None:
    path = f"/v1/models/{quote(name, safe='')}/versions/{version}:predict"
    assert by_path(path) == Call(TFS, Verb.PREDICT, name, str(version))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/models/", "model name is empty"),
        ("/v1/models/:predict", "model name is empty"),
        ("/v1/models//versions/1:predict", "model name is empty"),
        ("/v1/models/m/", "Malformed request: '' after the model name"),
        ("/v1/models/a/b:predict", "Malformed request: 'b' after the model name"),
        ("/v1/models/a:b:predict", "holds a ':'"),
        ("/v1/models/a:predict/versions/1", "holds a ':'"),
        ("/v1/models/a/versions/x:predict", "model version 'x'"),
        ("/v1/models/a/versions/-1:predict", "model version '-1'"),
        ("/v1/models/a/versions/9223372036854775808:predict", "model version"),
        ("/v1/models/a/versions/1/labels/x:predict", "Malformed request"),
        ("/v1/models/a/labels/..:predict", "version label '..'"),
        ("/v1/models/a%2Fb:predict", "holds a '/'"),
        ("/v1/models/%2e%2e:predict", "'..'"),
        ("/v1/models/..", "'..'"),
        ("/v1/models/a%5Cb:predict", "holds a '\\'"),
        ("/v1/models/a%0Ab:predict", "control character"),
        ("/v1/models/a%00:predict", "control character"),
        ("/v1/models/a%FF:predict", "not UTF-8"),
        ("/v1/models/" + "x" * 256 + ":predict", "256 bytes"),
        ("/v1/models/" + "x" * 5_000 + ":predict", "5000 bytes"),
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
        ("/v1/models/m:predict", "/v1/models/n/versions/2:predict"),
        ("/v1/models/m/versions/7:classify?a=b&c", "/v1/models/n/versions/2:classify?a=b&c"),
        ("/v1/models/m/labels/l:regress", "/v1/models/n/versions/2:regress"),
        ("/v1/models/m", "/v1/models/n/versions/2"),
        ("/v1/models/m/metadata", "/v1/models/n/versions/2/metadata"),
        ("/v1/models/m/versions/7/metadata", "/v1/models/n/versions/2/metadata"),
        ("/V1/Models/m/versions/7:Predict", "/V1/Models/n/versions/2:Predict"),
    ],
)
def test_a_path_for_another_model(path: str, swapped: str) -> None:
    call = name_call({":path": path}, LIMIT)
    assert isinstance(call, Call)
    assert swap_path(call, path, "n", "2", None) == swapped
