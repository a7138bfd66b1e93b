import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ext_proc.wire.batch import Alone, AloneReason, Member, ReplyMismatch, Written, padding
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.codecs import CODECS
from mesh.model_server.rapidjson import encode
from mesh.model_server.tfs import rest_reply, rest_request
from mesh.tensors.dtypes import DTYPES, TensorSpec
from tests.ext_proc.wire.arrays import TFS_REST, Array
from tests.ext_proc.wire.batching import Calls, Request, Server, calls_of, check

CODEC = CODECS[InferenceProtocol.TFS_REST].batches
IN_JSON = tuple(dtype for dtype in DTYPES if dtype.tf_name not in ("half", "uint16"))
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(lambda name: name != "b64")
STYLES = st.sampled_from([{"separators": (",", ":")}, {"indent": 4}, {"ensure_ascii": False}])


def server(specs: Sequence[TensorSpec]) -> Server:
    """Says the inputs as outputs: read and printed as TF Serving does, bit by bit."""

    def answer(headers: Mapping[str, str], body: bytes) -> Written:
        arrays, rows = rest_request.decode(rest_request.parse_object(body), specs)
        return Written(encode(rest_reply.encode(arrays, rows)))

    return answer


def listed(array: Array) -> Any:
    value = array.tolist()

    def text(value: Any) -> Any:
        return [text(each) for each in value] if isinstance(value, list) else value.decode()

    return text(value) if array.dtype == object else value


def requests_of(calls: Calls, rows: bool, data: st.DataObject) -> list[Request]:
    names = [each.name for each in calls.inputs]
    plain = len(names) == 1 and data.draw(st.booleans())
    made = []
    for arrays in calls.calls:
        columns = {name: listed(array) for name, array in arrays.items()}
        if plain:
            asked = {"instances" if rows else "inputs": columns[names[0]]}
        elif rows:
            asked = {"instances": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}
        else:
            asked = {"inputs": columns}
        whole = {"signature_name": "serving_default", **asked}
        made.append(({}, json.dumps(whole, **data.draw(STYLES)).encode()))
    return made


TAILS = hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=10).map(str.encode)


@given(calls_of(IN_JSON, TAILS, TEXTS, NAMES), st.booleans(), st.data())
def test_calls_get_what_they_get_alone(calls: Calls, rows: bool, data: st.DataObject) -> None:
    specs = [TensorSpec(each.name, each.dtype, (-1, *each.tail)) for each in calls.inputs]
    check(CODEC, TFS_REST, server(specs), requests_of(calls, rows, data), data.draw)


def read(asked: Any, **headers: str) -> Member | Alone:
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return CODEC.read(TFS_REST, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def member_of(asked: Any) -> Member:
    member = read(asked)
    assert isinstance(member, Member), member
    return member


def test_numbers_keep_their_digits() -> None:
    one, two = b'{"instances": [ [1.50, 2E+0],\n [-0.0, 1e-7] ]}', b'{"instances":[[0.10000000000000000001,5]]}'
    merged = CODEC.merge([member_of(one), member_of(two)]).body
    assert merged == b'{"instances":[[1.50, 2E+0],\n [-0.0, 1e-7],[0.10000000000000000001,5]]}'
    first, second = CODEC.split(member_of(one), [1, 1])
    assert CODEC.merge([second, first]).body == b'{"instances":[[-0.0, 1e-7],[1.50, 2E+0]]}'


def test_what_is_not_equal_shares_no_key() -> None:
    asked: list[Any] = [
        {"instances": [[1, 2]]},
        {"instances": [[1, 2, 3]]},
        {"instances": [[[1, 2]]]},
        {"instances": [1]},
        {"instances": ["1"]},
        {"instances": [True]},
        {"instances": [{"x": [1, 2]}]},
        {"instances": [{"x": 1}]},
        {"instances": [{"y": [1, 2]}]},
        {"instances": [{"x": [1, 2], "y": 1}]},
        {"signature_name": "s", "instances": [[1, 2]]},
        {"inputs": [[1, 2]]},
        {"inputs": {"x": [[1, 2]]}},
        {"inputs": {"x": [[1, 2]], "y": [1]}},
    ]
    members = [*map(member_of, asked), read({"instances": [[1, 2]]}, accept_encoding="gzip")]
    keys = {member.key for member in members if isinstance(member, Member)}
    assert len(keys) == len(members)
    assert member_of({"instances": [[0.5, 2], [3, 4]]}).key == members[0].key  # type: ignore[union-attr]
    assert member_of({"instances": [{"b64": "AA=="}]}).key == members[4].key  # type: ignore[union-attr]
    assert member_of({"inputs": {"y": [2], "x": [[1, 2]]}}).key == members[-2].key  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"instances": []}, AloneReason.NO_ROWS),
        ({"instances": 1}, AloneReason.NO_BATCH_DIMENSION),
        ({"inputs": 1}, AloneReason.NO_BATCH_DIMENSION),
        ({"inputs": {"b64": "AA=="}}, AloneReason.NO_BATCH_DIMENSION),
        ({"inputs": {"x": [1], "y": 2}}, AloneReason.NO_BATCH_DIMENSION),
        ({"inputs": {"x": [1], "y": [1, 2]}}, AloneReason.ROWS_DIFFER),
        ({"inputs": {}}, AloneReason.NO_TENSORS),
        ({}, AloneReason.NO_TENSORS),
        ({"inputs": {str(at): [1] for at in range(1025)}}, AloneReason.TOO_MANY),
        ({"instances": [[1, 2], [3]]}, AloneReason.MISFIT),
        ({"instances": [[1, 2], 3]}, AloneReason.MISFIT),
        ({"instances": [1, "2"]}, AloneReason.MISFIT),
        ({"instances": [None]}, AloneReason.MISFIT),
        ({"instances": [{"x": 1}, {"y": 1}]}, AloneReason.MISFIT),
        ({"instances": [{"x": 1}, {"x": [1]}]}, AloneReason.MISFIT),
        ({"instances": [{"x": 1}, 1]}, AloneReason.MISFIT),
        ({"instances": [1, {"x": 1}]}, AloneReason.MISFIT),
        ({"instances": [{"x": {"y": 1}}]}, AloneReason.MISFIT),
        ({"instances": [1], "inputs": [1]}, AloneReason.NOT_UNDERSTOOD),
        ({"instances": [1], "more": 1}, AloneReason.NOT_UNDERSTOOD),
        ([], AloneReason.NOT_UNDERSTOOD),
        (b'{"instances":[1]}}', AloneReason.NOT_UNDERSTOOD),
        (b'{"instances":[1],"instances":[1]}', AloneReason.NOT_UNDERSTOOD),
        (b'{"instances":["\xff"]}', AloneReason.NOT_UNDERSTOOD),
        (b'{"instances":' + b"[" * 100_000, AloneReason.NOT_UNDERSTOOD),
        (b'{"instances":' + b"[" * 900 + b"]" * 900 + b"}", AloneReason.MISFIT),
    ],
)
def test_what_goes_alone(asked: Any, reason: AloneReason) -> None:
    assert read(asked) == Alone(reason)


def test_what_is_packed_goes_alone() -> None:
    assert read({"instances": [1]}, content_encoding="gzip") == Alone(AloneReason.COMPRESSED)


ROWS = '{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}'
NAMED = (
    '{\n    "predictions": [\n        {\n            "y": "\udcff",\n            "z": 1\n        },'
    '\n        {\n            "y": "b",\n            "z": 2\n        }\n    ]\n}'
)
COLUMN = '{\n    "outputs": [\n        "a",\n        "b"\n    ]\n}'


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        (ROWS, ROWS.replace(", [3.0, 4.0]", "")),
        (NAMED, NAMED[: NAMED.index(",\n        {")] + "\n    ]\n}"),
        (COLUMN, COLUMN.replace(',\n        "b"', "")),
        ('{"predictions":[1,2]}', '{"predictions":[1]}'),
        ('{"predictions":[[[1],[2]], [[3],[4]]]}', '{"predictions":[[[1],[2]]]}'),
        ('{"outputs":{"y":[1,2],"z":[[1],[2]]}}', '{"outputs":{"y":[1],"z":[[1]]}}'),
    ],
)
def test_a_reply_keeps_the_style_of_its_server(reply: str, first: str) -> None:
    member = member_of({"instances": [1]})
    bodies = [part.body.decode("utf-8", "surrogateescape") for part in CODEC.cut({}, encode(reply), [member] * 2)]
    assert bodies[0] == first
    whole = CODEC.join({}, [Written(encode(body)) for body in bodies], member_of({"instances": [1, 2]})).body
    assert whole == encode(reply) or json.loads(encode(reply).decode("latin-1")) == json.loads(whole.decode("latin-1"))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"predictions": [1]}, "has 1 rows, and 2 were asked for"),
        ({"predictions": 1}, "no-batch-dimension"),
        ({"predictions": [[1], [1, 2]]}, "lists of unequal lengths"),
        ({"predictions": [{"y": 1}, {"z": 1}]}, "rows of different inputs"),
        ({"outputs": {"y": [1, 2], "z": [1]}}, "rows-differ"),
        ({"outputs": {"y": [1, 2], "z": 1}}, "no-batch-dimension"),
        ({"error": "no"}, "no-tensors"),
        ([], "no '{'"),
    ],
)
def test_a_reply_that_does_not_fit(reply: Any, says: str) -> None:
    with pytest.raises(ReplyMismatch, match=says):
        CODEC.cut({}, json.dumps(reply).encode(), [member_of({"instances": [1]})] * 2)


def test_padding_repeats_the_last_row() -> None:
    member = member_of({"inputs": {"x": [1, 2], "y": [["a"], ["b"]]}})
    merged = json.loads(CODEC.merge([member, *padding(CODEC, member, 2)]).body)
    assert merged == {"inputs": {"x": [1, 2, 2, 2], "y": [["a"], ["b"], ["b"], ["b"]]}}


NOISE = st.text('{}[]",:0123456789.eE-+ \n\\ub', max_size=10).map(str.encode)


@given(st.binary(max_size=50), NOISE, st.integers(0, 60), st.integers(0, 10))
def test_any_bytes_are_read_and_cut_or_told_of(noise: bytes, few: bytes, at: int, cut: int) -> None:
    good = json.dumps({"signature_name": "s", "instances": [{"x": [1, 2], "y": "a"}]}).encode()
    for body in (noise, good[:at] + few + good[at + cut :]):
        read(body)
    member = member_of(good)
    for reply in (encode(ROWS), encode(NAMED), encode(COLUMN)):
        for body in (noise, reply[:at] + few + reply[at + cut :]):
            try:
                CODEC.cut({}, body, [member] * 2)
            except ReplyMismatch as error:
                assert str(error).endswith(".")  # noqa: PT017
