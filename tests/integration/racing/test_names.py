"""What the configuration says of a name, met by clients that send no header of ours."""

from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest

from ext_proc.client import read_answer, tbms_try
from ext_proc.wire.call import InferenceProtocol
from integration.peers.tf_client import TfClient
from tests.integration import calls
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part
from tests.integration.racing.racing import IMAGE
from tests.integration.raw import rest

PROTOCOLS = tuple(InferenceProtocol)
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@protocols
async def test_limit_and_backups_are_the_configurations(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(known=Part(1, seconds=None), svm=Part(2))
    got = await stage.client.call(protocol, "known")
    assert (got.value, got.tell("why")) == (2, "overdue")
    assert 300 < float(got.tell("elapsed")) + float(got.tell("left")) <= 400.1


async def test_tensorflows_own_client(stage: Stage, tensorflow: TfClient) -> None:
    stage.plays(known=Part(1, seconds=None), svm=Part(2))
    reply = await tensorflow.predict(stage.edge.target, "known", {"image": ("float32", IMAGE.tolist())})
    assert (reply.code, reply.arrays["y"]) == (0, ("float32", [2.0]))
    assert "svm;rank=1" in dict(reply.initial)["tbms-answer"]


async def test_tensorflows_own_client_sends_what_the_helpers_write(stage: Stage, tensorflow: TfClient) -> None:
    stage.plays(bert=Part(1, seconds=None), svm=Part(2))
    call = tbms_try({"bert": 20, "svm": 100}, tloc=400)
    image = {"image": ("float32", IMAGE.tolist())}
    reply = await tensorflow.predict(stage.edge.target, call.model, image, metadata=call.metadata)
    assert (reply.code, reply.arrays["y"]) == (0, ("float32", [2.0]))
    answer = read_answer(reply.initial)
    assert answer is not None
    assert (answer.model, answer.rank, answer.why) == ("svm", 1, "overdue")


async def test_tritons_own_clients(stage: Stage) -> None:
    stage.plays(known=Part(1, seconds=None), svm=Part(2))
    over_grpc, over_rest = v2_grpc.InferInput("image", [1, 64], "FP32"), v2_rest.InferInput("image", [1, 64], "FP32")
    for tensor in (over_grpc, over_rest):
        tensor.set_data_from_numpy(IMAGE)
    async with v2_grpc.InferenceServerClient(stage.edge.target) as client:
        np.testing.assert_array_equal((await client.infer("known", [over_grpc])).as_numpy("y"), [2.0])
    async with v2_rest.InferenceServerClient(stage.edge.target) as client:
        np.testing.assert_array_equal((await client.infer("known", [over_rest])).as_numpy("y"), [2.0])


@protocols
async def test_the_configured_answer_where_nobody_answers(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(fixed=Part(seconds=None))
    got = await stage.client.call(protocol, "fixed")
    assert (got.value, got.tell("why")) == (77, "fallback")
    stage.plays(fixed=Part(3))
    assert (await stage.client.call(protocol, "fixed", {"tloc": "5000"})).value == 3


@protocols
async def test_an_alias_leads_to_a_version(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(5))
    got = await stage.client.call(protocol, "prod")
    assert (got.value, got.answer) == (5, ""), "a renamed call is not raced"
    (call,) = stage.puppet.calls
    assert (call.model, call.version) == ("bert", "7")


async def test_a_label_is_a_version(stage: Stage) -> None:
    stage.plays(tagged=Part(5))
    await stage.client.call(InferenceProtocol.TFS_REST, "tagged", version="/labels/stable")
    (call,) = stage.puppet.calls
    assert (call.model, call.version, call.path) == ("tagged", "3", "/v1/models/tagged/versions/3:predict")


@protocols
async def test_a_split_is_sticky_by_key_and_even_without(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(one=Part(1), two=Part(2))
    for key in ("user-1", "user-2", "user-3", "user-4"):
        sides = {(await stage.client.call(protocol, "trial", {"tbms-key": key})).value for _ in range(4)}
        assert len(sides) == 1
    both = Counter([(await stage.client.call(protocol, "trial")).value for _ in range(40)])
    assert set(both) == {1, 2}


@protocols
async def test_a_shadow_gets_a_copy_and_its_answer_is_dropped(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(copied=Part(1), svm=Part(2, seconds=0.1))
    got = await stage.client.call(protocol, "copied")
    assert got.value == 1
    await stage.puppet.until(lambda: {call.end for call in stage.puppet.of("svm")} == {"finished"})
    (original,), (copy,) = stage.puppet.of("copied"), stage.puppet.of("svm")
    if not protocol.is_grpc:
        assert copy.body == original.body


@protocols
async def test_a_virtual_model_is_the_list_behind_it(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(1), one=Part(2), two=Part(4))
    assert (await stage.client.call(protocol, "assistant")).value == 1
    stage.plays(bert=Part(seconds=None), one=Part(2), two=Part(4))
    got = await stage.client.call(protocol, "assistant")
    assert (got.value, got.tell("mix")) == (3, "avg")
    assert got.answer.startswith("(one two);rank=1;")


@pytest.mark.parametrize("name", ["modèle", "two words", "50%off"])
@protocols
async def test_any_name_that_a_model_may_have_can_be_raced(
    stage: Stage, protocol: InferenceProtocol, name: str
) -> None:
    stage.plays(**{name: Part(1)})
    path = "".join(f"%{byte:02x}" for byte in name.encode()) if not protocol.is_grpc else name
    got = await stage.client.call(protocol, path, {"tloc": "5000"})
    assert (got.value, got.tell("why")) == (1, "primary")
    assert [call.model for call in stage.puppet.calls] == [name]


async def test_questions_about_a_raced_model_are_not_raced(stage: Stage) -> None:
    stage.plays()
    reply = await rest(stage.client.http, "/v1/models/known/metadata", None, {"tloc": "5000"})
    assert (reply.status, reply.headers.get("tbms-answer")) == (200, None)
    assert [call.model for call in stage.puppet.calls] == ["known"]


@protocols
async def test_no_header_and_no_configuration_is_a_plain_call(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(1))
    got = await stage.client.call(protocol, "bert")
    assert (got.value, got.answer) == (1, "")
    (call,) = stage.puppet.calls
    write = {
        InferenceProtocol.TFS_REST: calls.tfs_rest,
        InferenceProtocol.V2_REST: calls.v2_rest,
        InferenceProtocol.TFS_GRPC: calls.tfs_grpc,
        InferenceProtocol.V2_GRPC: calls.v2_grpc,
    }[protocol]
    written = write("bert", IMAGE)
    assert call.body == getattr(written, "body", None) or getattr(written, "message", None)
