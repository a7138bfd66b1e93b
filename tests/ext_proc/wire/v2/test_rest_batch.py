import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.batch import Alone, AloneReason, Member, ReplyMismatch, Written, padding
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.codecs import CODECS
from ext_proc.wire.v2.rest_outputs import HEADER
from mesh.tensors.v2 import to_raw
from tests.ext_proc.wire.arrays import V2_REST, Array
from tests.ext_proc.wire.batching import Calls, Request, calls_of, check

CODEC = CODECS[InferenceProtocol.V2_REST].batches
TEXTS = st.text(max_size=20).filter(lambda text: text.encode("utf-8", "replace").decode() == text).map(str.encode)
FORMS = st.sampled_from(["binary", "flat", "nested"])
STYLES = st.sampled_from([(",", ":"), (", ", ": ")])


class Number(float):
    """A number that is printed as it was written."""

    text: str

    def __new__(cls, text: str) -> "Number":
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __repr__(self) -> str:
        return self.text


def loads(text: bytes) -> Any:
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)


def dumps(value: Any, separators: tuple[str, str] = (",", ":")) -> str:
    """As json.dumps, with numbers as they were written."""
    comma, colon = separators
    if isinstance(value, dict):
        return f"{{{comma.join(f'{dumps(key)}{colon}{dumps(each, separators)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{comma.join(dumps(each, separators) for each in value)}]"
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def numbers(array: Array, draw: Any) -> Any:
    """The array as lists, each number in one of the ways in which it can be written."""

    def written(value: Any) -> Any:
        if isinstance(value, float):
            text = draw(st.sampled_from([repr(value), f"{value:.3e}", f"{value:.20f}"]))
            return Number(text.replace("nan", "NaN").replace("inf", "Infinity"))
        if isinstance(value, bytes):
            return value.decode()
        return Number(str(value)) if type(value) is int else value

    def each(value: Any) -> Any:
        return [each(item) for item in value] if isinstance(value, list) else written(value)

    return each(array.tolist())


def flat(value: Any) -> list[Any]:
    return [item for each in value for item in flat(each)] if isinstance(value, list) else [value]


def server(headers: Mapping[str, str], body: bytes) -> Written:
    """Says the inputs as outputs, in the order of their names: as binary data where they came so, or else flat."""
    size = int(headers.get(HEADER, len(body)))
    asked, at = loads(body[:size]), size
    reply: dict[str, Any] = {"id": asked["id"]} if "id" in asked else {}
    reply |= {"model_name": "m", "model_version": "3", "parameters": {"p": 5}, "outputs": []}
    blobs = {}
    for each in asked["inputs"]:
        if "data" in each:
            each["data"] = flat(each["data"])
        else:
            length = int(each["parameters"]["binary_data_size"])
            each["parameters"] = {"binary_data_size": length, "q": each["parameters"]["q"]}
            blobs[each["name"]] = body[at : at + length]
            at += length
    assert at == len(body)
    for each in sorted(asked["inputs"], key=lambda each: each["name"]):
        keys = ("name", "datatype", "shape", "parameters", "data")
        reply["outputs"].append({key: each[key] for key in keys if key in each})
    head = dumps(reply).encode()
    told = ((HEADER, str(len(head))),) if HEADER in headers else ()
    return Written(b"".join([head, *dict(sorted(blobs.items())).values()]), told)


def requests_of(calls: Calls, data: st.DataObject) -> list[Request]:
    forms = {each.name: "binary" if each.dtype.v2 == "FP16" else data.draw(FORMS) for each in calls.inputs}
    made = []
    for at, arrays in enumerate(calls.calls):
        inputs, blobs = [], []
        for each in sorted(calls.inputs, key=lambda each: list(arrays).index(each.name)):
            array = arrays[each.name]
            said: dict[str, Any] = {"name": each.name, "shape": list(array.shape), "datatype": each.dtype.v2}
            if forms[each.name] == "binary":
                blobs.append(to_raw(array))
                said["parameters"] = {"binary_data_size": len(blobs[-1]), "q": 1.5}
            else:
                said["data"] = numbers(array.ravel() if forms[each.name] == "flat" else array, data.draw)
            inputs.append(said)
        asked: dict[str, Any] = {"parameters": {"binary_data_output": True}, "inputs": inputs}
        if at:
            asked["id"] = f"é {at}"
        head = dumps(asked, data.draw(STYLES)).encode()
        made.append(({HEADER: str(len(head))} if "binary" in forms.values() else {}, b"".join([head, *blobs])))
    return made


@given(calls_of(strings=TEXTS, names=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)), st.data())
def test_calls_get_what_they_get_alone(calls: Calls, data: st.DataObject) -> None:
    requests = requests_of(calls, data)
    first = CODEC.read(V2_REST, *requests[0])
    if isinstance(first, Alone):  # nested lists that are empty before the shape ends
        assert first.reason is AloneReason.MISFIT
        assert any(0 in each.tail[:-1] for each in calls.inputs)
        return
    check(CODEC, V2_REST, server, requests, data.draw)


BINARY = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
JSON = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
CLASSES = {"name": "y", "parameters": {"classification": 3}}


def read(asked: Any, blob: bytes | None = None, **given: str) -> Member | Alone:
    head = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    headers = {} if blob is None else {HEADER: str(len(head))}
    headers |= {name.replace("_", "-"): value for name, value in given.items()}
    return CODEC.read(V2_REST, headers, head + (blob or b""))


def changed(tensor: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"inputs": [{**tensor, **members}]}


def test_what_is_not_equal_shares_no_key() -> None:
    whole = {"inputs": [JSON]}
    asked = [
        whole,
        changed(JSON, name="y"),
        changed(JSON, shape=[2, 1, 2]),
        changed(JSON, datatype="FP64"),
        changed(JSON, data=[[1, 2], [3, 4]]),
        changed(JSON, parameters={"p": 1}),
        changed(JSON, parameters={"p": True}),
        {**whole, "parameters": {"p": 1}},
        {**whole, "parameters": {"p": 2}},
        {**whole, "outputs": [{"name": "y"}]},
        {**whole, "outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
        {**whole, "unknown": [1]},
    ]
    members = [*map(read, asked), read(whole, accept_encoding="gzip"), read({"inputs": [BINARY]}, bytes(16))]
    keys = {member.key for member in members if isinstance(member, Member)}
    assert len(keys) == len(members)
    same = [
        {**whole, "id": "x"},
        changed(JSON, shape=[4, 2], data=[0.5] * 8),
        {"inputs": [dict(reversed(JSON.items()))]},
    ]
    assert {member.key for member in map(read, same)} == {members[0].key}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (changed(JSON, shape=[]), AloneReason.NO_BATCH_DIMENSION),
        (changed(JSON, shape=[0, 2], data=[]), AloneReason.NO_ROWS),
        (changed(JSON, shape=[-2, 2]), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, shape=[2, 2.0]), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, shape=[2, 2] + [1] * 31), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, data=[1, 2, 3]), AloneReason.MISFIT),
        (changed(JSON, data=[[1, 2, 3], [4]]), AloneReason.MISFIT),
        (changed(JSON, data=[1, 2, 3, None]), AloneReason.MISFIT),
        (changed(JSON, data=[1, 2, 3, "4"]), AloneReason.MISFIT),
        (changed(JSON, data=[1, 2, 3, {"b64": "4"}]), AloneReason.MISFIT),
        (changed(JSON, data=[1, 2, 3, {}]), AloneReason.MISFIT),
        (changed(JSON, datatype="INT32", data=[1, 2, 3, 4.5]), AloneReason.MISFIT),
        (changed(JSON, datatype="FP16"), AloneReason.MISFIT),
        (changed(JSON, data=1), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, name=1), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, parameters={"binary_data_size": 16}), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, parameters=[]), AloneReason.NOT_UNDERSTOOD),
        (changed(BINARY), AloneReason.MISFIT),
        (changed(BINARY, parameters={}), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, parameters={"shared_memory_region": "r"}), AloneReason.SHARED_MEMORY),
        ({"inputs": [JSON], "parameters": {"sequence_id": 3}}, AloneReason.SEQUENCE),
        (
            {"inputs": [JSON], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            AloneReason.CLASSIFICATION,
        ),
        ({"inputs": [JSON, {**JSON, "name": "y", "shape": [4]}]}, AloneReason.ROWS_DIFFER),
        ({"inputs": [JSON], "id": 3}, AloneReason.NOT_UNDERSTOOD),
        ({"inputs": [JSON], "id": "\ud800"}, AloneReason.NOT_UNDERSTOOD),
        ({"inputs": []}, AloneReason.NO_TENSORS),
        ({}, AloneReason.NO_TENSORS),
        ({"inputs": [{**JSON, "name": str(at)} for at in range(1025)]}, AloneReason.TOO_MANY),
        (changed(JSON, parameters={"data": [0]}), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, parameters={"id": "0"}), AloneReason.NOT_UNDERSTOOD),
        (changed(BINARY, data=[0]), AloneReason.NOT_UNDERSTOOD),
        (changed(JSON, data=None), AloneReason.NOT_UNDERSTOOD),
        (json.dumps({"inputs": [JSON]}).replace("data", "d\\u0061ta").encode(), AloneReason.NOT_UNDERSTOOD),
        (json.dumps({"inputs": [JSON]}).replace("}]", ',"data":[0]}]').encode(), AloneReason.NOT_UNDERSTOOD),
        (b"[]", AloneReason.NOT_UNDERSTOOD),
        (b"", AloneReason.NO_SHAPE),
        (b"\xff", AloneReason.NOT_UNDERSTOOD),
        (b'{"inputs":[]} more', AloneReason.NOT_UNDERSTOOD),
        (b'{"inputs":[],"inputs":[]}', AloneReason.NOT_UNDERSTOOD),
        (b'{"inputs":[' + b"[" * 100_000, AloneReason.NOT_UNDERSTOOD),
        (b'{"inputs":[{"data":' + b"[" * 100_000, AloneReason.NOT_UNDERSTOOD),
        (b'{"inputs":[{"data":' + b"[" * 900 + b"]" * 900, AloneReason.NOT_UNDERSTOOD),
        (b'{"inputs":[{"data":[' + b"1" * 10_000 + b"]", AloneReason.NOT_UNDERSTOOD),
    ],
)
def test_what_goes_alone(asked: Any, reason: AloneReason) -> None:
    assert read(asked) == Alone(reason)


@pytest.mark.parametrize(
    ("blob", "headers", "reason"),
    [
        (bytes(15), {}, AloneReason.MISFIT),
        (bytes(17), {}, AloneReason.MISFIT),
        (bytes(16), {"content_encoding": "gzip"}, AloneReason.COMPRESSED),
        (bytes(16), {HEADER: "0"}, AloneReason.NO_SHAPE),
        (bytes(16), {HEADER: "+9"}, AloneReason.NOT_UNDERSTOOD),
        (bytes(16), {HEADER: "999"}, AloneReason.NOT_UNDERSTOOD),
    ],
)
def test_what_goes_alone_for_its_binary_data(blob: bytes, headers: dict[str, str], reason: AloneReason) -> None:
    assert isinstance(read({"inputs": [BINARY]}, bytes(16)), Member)
    assert read({"inputs": [BINARY]}, blob, **headers) == Alone(reason)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"shape": [3, 2]}, "other values than the shape has"),
        ({"shape": [3, 2], "data": [1] * 6}, "has 3 rows, and 4 were asked for"),
        ({"data": [[1, 2], [3, 4]]}, "other values"),
        ({"data": [1, 2, 3, "4"] * 2}, "of another type"),
        ({"shape": []}, "no-batch-dimension"),
        ({"name": "z"}, "other outputs than were asked for"),
        ({"datatype": None}, "not-understood"),
    ],
)
def test_a_reply_that_does_not_fit(output: dict[str, Any], says: str) -> None:
    member = read({"inputs": [JSON], "outputs": [{"name": "x"}]})
    assert isinstance(member, Member)
    good = {**JSON, "shape": [4, 2], "data": list(range(8))}
    assert len(CODEC.cut({}, json.dumps({"outputs": [good]}).encode(), [member] * 2)) == 2
    with pytest.raises(ReplyMismatch, match=says):
        CODEC.cut({}, json.dumps({"outputs": [{**good, **output}]}).encode(), [member] * 2)
    with pytest.raises(ReplyMismatch, match="no-tensors"):
        CODEC.cut({}, b'{"outputs":[]}', [member] * 2)
    with pytest.raises(ReplyMismatch, match="cannot be cut into rows"):
        CODEC.cut({}, b'{"error":', [member] * 2)


def test_the_style_of_another_server_is_kept() -> None:
    member = read({"inputs": [JSON], "id": "mine"})
    assert isinstance(member, Member)
    style = '{ "id": %s,\n "outputs": [ {"data": [ %s ], "shape": [ %d, 2], "datatype": "FP32", "name": "x"} ] }'
    reply = style % ('"its"', "[1.50, 2], [3 , 4e0], [5, 6],\n [7, 8]", 4)
    first, second = CODEC.cut({}, reply.encode(), [member] * 2)
    assert first.body.decode() == style % ('"mine"', "[1.50, 2], [3 , 4e0]", 2)
    assert second.body.decode() == style % ('"mine"', "[5, 6],\n [7, 8]", 2)


@pytest.mark.parametrize("depth", range(100, 1000, 25))
def test_what_is_nested_deep_is_no_error(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    head = json.dumps({"inputs": [JSON]}).encode()[:-1]
    assert isinstance(read(head + b',"more":' + deep + b"}"), Member | Alone)
    member = read({"inputs": [JSON]})
    assert isinstance(member, Member)
    reply = json.dumps({"outputs": [JSON]}).encode()[:-1] + b',"more":' + deep + b"}"
    try:
        (part,) = CODEC.cut({}, reply, [member])
    except ReplyMismatch:
        return
    assert part.body == reply


def test_padding_repeats_the_last_row() -> None:
    member = read({"inputs": [JSON, {**BINARY, "name": "y"}]}, np.arange(4, dtype=np.float32).tobytes())
    assert isinstance(member, Member)
    merged = CODEC.merge([member, *padding(CODEC, member, 2)])
    size = int(dict(merged.headers)[HEADER])
    first, second = json.loads(merged.body[:size])["inputs"]
    assert first["data"] == [1, 2, 3, 4, 3, 4, 3, 4]
    assert first["shape"] == second["shape"] == [4, 2]
    assert np.frombuffer(merged.body[size:], np.float32).tolist() == [0, 1, 2, 3, 2, 3, 2, 3]


NOISE = st.text('{}[]",:0123456789.eE-+ \n\\ub', max_size=10).map(str.encode)


@given(st.binary(max_size=50), NOISE, st.integers(0, 120), st.integers(0, 10))
def test_any_bytes_are_read_and_cut_or_told_of(noise: bytes, few: bytes, at: int, cut: int) -> None:
    good = json.dumps({"inputs": [JSON], "id": "i"}).encode()
    for body in (noise, good[:at] + few + good[at + cut :]):
        read(body)
    member = read(good)
    assert isinstance(member, Member)
    reply = json.dumps({"outputs": [JSON], "id": "i"}).encode()
    for body in (noise, reply[:at] + few + reply[at + cut :]):
        try:
            CODEC.cut({}, body, [member])
        except ReplyMismatch as error:
            assert str(error).endswith(".")  # noqa: PT017
