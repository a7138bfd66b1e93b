import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.batch import Alone, AloneReason, Member, ReplyMismatch, Written, padding
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import batches_of
from tests.ext_proc.wire.batching import check

CLASSIFY = Call(InferenceProtocol.TFS_REST, Verb.CLASSIFY, "m")
REGRESS = Call(InferenceProtocol.TFS_REST, Verb.REGRESS, "m")
CODEC = batches_of(CLASSIFY)
STYLES = st.sampled_from([{"separators": (",", ":")}, {"indent": 4}, {"ensure_ascii": False}])


def server(headers: Mapping[str, str], body: bytes) -> Written:
    """A result for each example after its context, in the style of TF Serving's writer: arrays in one line."""
    asked = json.loads(body)
    seen = [json.dumps([asked.get("context"), example]).encode() for example in asked["examples"]]
    numbers = [int.from_bytes(sha256(each).digest()[:2]) for each in seen]
    if asked.get("signature_name") == "regress":
        results = json.dumps([number / 7 for number in numbers])
        return Written(f'{{\n    "results": {results}\n}}'.encode())
    classes = [json.dumps([[f'é,]"{at}', number / 7] for at in range(number % 4)]) for number in numbers]
    return Written(f'{{\n    "results": [{", ".join(classes)}\n    ]\n}}'.encode())


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=10)
VALUES = st.one_of(st.integers(), st.floats(allow_nan=False), TEXTS, TEXTS.map(lambda text: {"b64": text}))
EXAMPLES = st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=3), max_size=3)
LISTS = st.lists(st.lists(EXAMPLES, min_size=1, max_size=4), min_size=1, max_size=4)


@given(LISTS, st.none() | EXAMPLES, st.booleans(), st.data())
def test_calls_get_what_they_get_alone(
    lists: list[list[Any]], context: dict[str, Any] | None, regress: bool, data: st.DataObject
) -> None:
    style = data.draw(STYLES)
    requests = []
    for examples in lists:
        made: dict[str, Any] = {"signature_name": "regress" if regress else "classify", "examples": examples}
        if context is not None:
            made["context"] = context
        names = data.draw(st.permutations(sorted(made)))
        requests.append(({}, json.dumps({name: made[name] for name in names}, **style).encode()))
    check(CODEC, REGRESS if regress else CLASSIFY, server, requests, data.draw)


def read(asked: Any, call: Call = CLASSIFY, **headers: str) -> Member | Alone:
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return CODEC.read(call, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def member_of(asked: Any, call: Call = CLASSIFY) -> Member:
    member = read(asked, call)
    assert isinstance(member, Member), member
    return member


def test_examples_keep_their_digits() -> None:
    one, two = (
        b'{"examples": [ {"x": 1.50},\n {"x":[2E+0, {"b64":"AA=="}]} ]}',
        b'{"examples":[{"y":0.10000000000000000001}]}',
    )
    merged = CODEC.merge([member_of(one), member_of(two)]).body
    assert merged == b'{"examples":[{"x": 1.50},\n {"x":[2E+0, {"b64":"AA=="}]},{"y":0.10000000000000000001}]}'


def test_what_is_not_equal_shares_no_key() -> None:
    asked: list[Any] = [
        {"examples": [{"x": 1}]},
        {"examples": [{"x": 1}], "signature_name": "s"},
        {"examples": [{"x": 1}], "context": {}},
        {"examples": [{"x": 1}], "context": {"c": 1}},
        {"examples": [{"x": 1}], "context": {"c": 1.0}},
    ]
    members = [*map(member_of, asked), member_of(asked[0], REGRESS)]
    assert len({member.key for member in members}) == len(members)
    assert member_of({"examples": [{"y": "a"}, {}]}).key == members[0].key
    assert member_of({"context": {"c": 1}, "examples": [{}]}).key == members[3].key


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"examples": []}, AloneReason.NO_ROWS),
        ({"examples": {}}, AloneReason.NO_BATCH_DIMENSION),
        ({"examples": [{}, 1]}, AloneReason.MISFIT),
        ({"context": {}}, AloneReason.NO_TENSORS),
        ({"instances": [1]}, AloneReason.NOT_UNDERSTOOD),
        ({"examples": [{}], "more": 1}, AloneReason.NOT_UNDERSTOOD),
        ([], AloneReason.NOT_UNDERSTOOD),
        (b'{"examples":[{}]}}', AloneReason.NOT_UNDERSTOOD),
        (b'{"examples":[{}],"examples":[{}]}', AloneReason.NOT_UNDERSTOOD),
        (b'{"examples":[{"x":"\xff"}]}', AloneReason.NOT_UNDERSTOOD),
        (b'{"examples":' + b"[" * 100_000, AloneReason.NOT_UNDERSTOOD),
    ],
)
def test_what_goes_alone(asked: Any, reason: AloneReason) -> None:
    assert read(asked) == Alone(reason)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"results": [1]}, "has 1 rows, and 2 were asked for"),
        ({"results": 1}, "no-tensors"),
        ({"error": "no"}, "no-tensors"),
        ([], "no '{'"),
    ],
)
def test_a_reply_that_does_not_fit(reply: Any, says: str) -> None:
    with pytest.raises(ReplyMismatch, match=says):
        CODEC.cut({}, json.dumps(reply).encode(), [member_of({"examples": [{}]})] * 2)


def test_padding_repeats_the_last_example() -> None:
    member = member_of({"examples": [{"x": 1}, {"x": 2}]})
    merged = json.loads(CODEC.merge([member, *padding(CODEC, member, 2)]).body)
    assert merged == {"examples": [{"x": 1}, {"x": 2}, {"x": 2}, {"x": 2}]}


NOISE = st.text('{}[]",:0123456789.eE-+ \n\\ub', max_size=10).map(str.encode)


@given(st.binary(max_size=50), NOISE, st.integers(0, 60), st.integers(0, 10))
def test_any_bytes_are_read_and_cut_or_told_of(noise: bytes, few: bytes, at: int, cut: int) -> None:
    good = json.dumps({"signature_name": "s", "context": {"c": [1]}, "examples": [{"x": [1, 2]}, {"y": "a"}]}).encode()
    for body in (noise, good[:at] + few + good[at + cut :]):
        read(body)
    member, reply = member_of(good), server({}, good).body
    for body in (noise, reply[:at] + few + reply[at + cut :]):
        try:
            CODEC.cut({}, body, [member])
        except ReplyMismatch as error:
            assert str(error).endswith(".")  # noqa: PT017
