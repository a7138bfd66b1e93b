from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.batch import Alone, AloneReason, Member, ReplyMismatch, Written, padding
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import batches_of
from ext_proc.wire.protobuf.fields import len_field
from mesh.protos import tfs_pb2 as tfs
from tests.ext_proc.wire.batching import UNKNOWN, check
from tests.ext_proc.wire.messages import SPECS

CLASSIFY = Call(InferenceProtocol.TFS_GRPC, Verb.CLASSIFY, "m")
REGRESS = Call(InferenceProtocol.TFS_GRPC, Verb.REGRESS, "m")
CODEC = batches_of(CLASSIFY)


def number_of(example: bytes) -> int:
    return int.from_bytes(sha256(example).digest()[:2])


def classes(example: bytes) -> tfs.Classifications:
    """As many as the example says: of none, too."""
    number = number_of(example)
    return tfs.Classifications(classes=[{"label": f"é{at}", "score": number / 7} for at in range(number % 4)])


def server(headers: Mapping[str, str], body: bytes) -> Written:
    """A result for each example, as TF Serving reads it: after the context of its list, of which it is a part then."""
    asked = tfs.ClassificationRequest.FromString(body)
    kind = asked.input.WhichOneof("kind")
    given = getattr(asked.input, kind)
    whole = [(given.context if kind != "example_list" else b"") + example for example in given.examples]
    if asked.model_spec.signature_name == "regress":
        values = [{"value": number_of(example) % 3} for example in whole]
        return Written(
            tfs.RegressionResponse(result={"regressions": values}, model_spec=asked.model_spec).SerializeToString()
        )
    result = tfs.ClassificationResult(classifications=[classes(example) for example in whole])
    return Written(tfs.ClassificationResponse(result=result, model_spec=asked.model_spec).SerializeToString())


LISTS = st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=5), min_size=1, max_size=4)


@given(LISTS, st.none() | st.binary(max_size=20), st.booleans(), SPECS, UNKNOWN, st.data())
def test_calls_get_what_they_get_alone(
    lists: list[list[bytes]],
    context: bytes | None,
    regress: bool,
    spec: tfs.ModelSpec,
    unknown: bytes,
    data: st.DataObject,
) -> None:
    spec.signature_name = "regress" if regress else "classify"
    requests = []
    for examples in lists:
        made = tfs.ClassificationRequest(model_spec=spec)
        if context is None:
            made.input.example_list.examples.extend(examples)
        else:
            made.input.example_list_with_context.examples.extend(examples)
            made.input.example_list_with_context.context = context
        requests.append(({}, made.SerializeToString() + unknown))
    check(CODEC, REGRESS if regress else CLASSIFY, server, requests, data.draw)


def request(*examples: bytes, context: bytes | None = None, model: str = "m", **spec: Any) -> bytes:
    listed: dict[str, Any] = {"examples": examples}
    given = (
        {"example_list": listed} if context is None else {"example_list_with_context": listed | {"context": context}}
    )
    return tfs.ClassificationRequest(model_spec={"name": model, **spec}, input=given).SerializeToString()  # type: ignore[arg-type]


def read(body: bytes, call: Call = CLASSIFY) -> Member | Alone:
    return CODEC.read(call, {}, body)


def member_of(body: bytes, call: Call = CLASSIFY) -> Member:
    member = read(body, call)
    assert isinstance(member, Member), member
    return member


def test_what_is_not_equal_shares_no_key() -> None:
    made = [
        request(b"a"),
        request(b"a", model="n"),
        request(b"a", signature_name="s"),
        request(b"a", context=b""),
        request(b"a", context=b"c"),
        request(b"a", context=b"d"),
        request(b"a") + len_field(15, b"?"),
    ]
    members = [*map(member_of, made), member_of(made[0], REGRESS)]
    assert len({member.key for member in members}) == len(members)
    assert member_of(request(b"", b"b")).key == members[0].key
    assert member_of(request(b"b", context=b"c")).key == members[4].key


SPEC = len_field(1, len_field(1, b"m"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (request(), AloneReason.NO_ROWS),
        (request(context=b"c"), AloneReason.NO_ROWS),
        (SPEC, AloneReason.NO_ROWS),
        (SPEC + len_field(2, b""), AloneReason.NO_ROWS),
        (request(*[b""] * 65_537), AloneReason.TOO_MANY),
        (SPEC + len_field(2, len_field(1, b"") + len_field(2, b"")), AloneReason.NOT_UNDERSTOOD),
        (SPEC + len_field(2, len_field(1, len_field(1, b"a"))) * 2, AloneReason.NOT_UNDERSTOOD),
        (SPEC + len_field(2, len_field(1, len_field(1, b"a")) * 2), AloneReason.NOT_UNDERSTOOD),
        (SPEC + len_field(2, len_field(2, len_field(1, b"a") + len_field(2, b"c") * 2)), AloneReason.NOT_UNDERSTOOD),
        (SPEC + len_field(2, len_field(1, b"\x8a\0\1a")), AloneReason.MISFIT),
        (request(b"a")[:-1], AloneReason.NOT_UNDERSTOOD),
        (b"\xff" * 5, AloneReason.NOT_UNDERSTOOD),
    ],
)
def test_what_goes_alone(body: bytes, reason: AloneReason) -> None:
    assert read(body) == Alone(reason)


def test_calls_of_other_kinds_are_not_read() -> None:
    assert read(request(b"a"), Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")) == Alone(AloneReason.NO_TENSORS)


RESULTS = [{"value": 1.5}, {}, {"value": -2.0}]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (tfs.RegressionResponse(result={"regressions": RESULTS[:2]}), "has 2 rows, and 3 were asked for"),
        (tfs.RegressionResponse(result={"regressions": RESULTS * 2}), "has 6 rows, and 3 were asked for"),
        (tfs.RegressionResponse(), "has 0 rows, and 3 were asked for"),
        (len_field(1, b"") * 2, "comes twice"),
        (len_field(1, b"\x8a\0\1a" * 3), "another field among the strings"),
        (b"\xff", "cannot be cut into rows"),
    ],
)
def test_a_reply_that_does_not_fit(reply: tfs.RegressionResponse | bytes, says: str) -> None:
    members = [member_of(request(b"a"), REGRESS), member_of(request(b"b", b"c"), REGRESS)]
    whole = tfs.RegressionResponse(result={"regressions": RESULTS}, model_spec={"name": "m", "version": {"value": 3}})
    one, two = CODEC.cut({}, whole.SerializeToString(), members)
    assert [each.value for each in tfs.RegressionResponse.FromString(one.body).result.regressions] == [1.5]
    assert [each.value for each in tfs.RegressionResponse.FromString(two.body).result.regressions] == [0, -2]
    assert tfs.RegressionResponse.FromString(two.body).model_spec == whole.model_spec
    body = reply if isinstance(reply, bytes) else reply.SerializeToString()
    with pytest.raises(ReplyMismatch, match=says):
        CODEC.cut({}, body, members)


def test_padding_repeats_the_last_example() -> None:
    member = member_of(request(b"a", b"b", context=b"c"))
    merged = tfs.ClassificationRequest.FromString(CODEC.merge([member, *padding(CODEC, member, 2)]).body)
    assert merged.input.example_list_with_context == tfs.ExampleListWithContext(
        examples=[b"a", b"b", b"b", b"b"], context=b"c"
    )


@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, 60), st.integers(0, 5))
def test_any_bytes_are_read_and_cut_or_told_of(noise: bytes, few: bytes, at: int, cut: int) -> None:
    good = request(b"abc", b"", context=b"c")
    for body in (noise, good[:at] + few + good[at + cut :]):
        read(body)
    member, reply = member_of(good), server({}, good).body
    for body in (noise, reply[:at] + few + reply[at + cut :]):
        try:
            CODEC.cut({}, body, [member])
        except ReplyMismatch as error:
            assert str(error).endswith(".")  # noqa: PT017
