"""Limits from 1 ms to 30 s, limits that have passed, and headers that cannot hold."""

import asyncio
import os
import signal

import pytest

from ext_proc.wire.call import InferenceProtocol
from tests.integration.in_envoy import in_envoy
from tests.integration.racing.conftest import Stage
from tests.integration.racing.puppet import Part

PROTOCOLS = tuple(InferenceProtocol)
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


def deadline(protocol: InferenceProtocol) -> int | str:
    return "DEADLINE_EXCEEDED" if protocol.is_grpc else 504


@protocols
@pytest.mark.parametrize("ms", [1, 5, 20])
async def test_a_short_limit_ends_with_an_error_or_an_answer_and_nothing_else(
    stage: Stage, protocol: InferenceProtocol, ms: int
) -> None:
    stage.plays(bert=Part(seconds=None))
    got = await stage.client.call(protocol, "bert", {"tloc": str(ms)})
    assert got.status == deadline(protocol)
    assert got.tell("why") in ("deadline", "expired")  # a busy machine may need as long to tell the server of the call
    await stage.puppet.until(lambda: all(call.end == "cancelled" for call in stage.puppet.calls))


@protocols
async def test_a_long_limit_with_a_quick_answer(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(1))
    got = await stage.client.call(protocol, "bert", {"tloc": "30000;est=20000", "backup": "svm;est=100"})
    assert got.value == 1
    assert float(got.tell("left")) > 20_000
    assert [call.model for call in stage.puppet.calls] == ["bert"]


@protocols
async def test_a_limit_that_has_passed_asks_nobody(stage: Stage, protocol: InferenceProtocol) -> None:
    got = await stage.client.call(protocol, "fixed", {"tloc": "0"})
    assert got.status == deadline(protocol)
    assert got.error == "the limit of 0 ms had passed before a model was asked"
    assert got.tell("why") == "expired"
    assert stage.puppet.calls == []


@protocols
async def test_the_time_that_a_call_waits_for_the_server_is_part_of_its_limit(
    stage: Stage, protocol: InferenceProtocol
) -> None:
    stage.plays(bert=Part(1))
    server = stage.edge.server.pid
    os.kill(server, signal.SIGSTOP)
    try:
        async with asyncio.TaskGroup() as tasks:
            calls = [
                tasks.create_task(stage.client.call(protocol, "bert", {"tloc": tloc}))
                for tloc in ("200;est=10", "20000")
            ]
            while await in_envoy(stage.edge) < 2:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            os.kill(server, signal.SIGCONT)
    finally:
        os.kill(server, signal.SIGCONT)
    short, long = (call.result() for call in calls)
    assert (short.status, short.tell("why")) == (deadline(protocol), "expired")
    assert (long.value, long.tell("why")) == (1, "primary")
    assert float(long.tell("elapsed")) > 400
    assert len(stage.puppet.calls) == 1


@protocols
@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"tloc": "soon"}, "Header tloc: value is a number of milliseconds"),
        ({"tloc": "-5"}, "Header tloc: value is a number of milliseconds"),
        ({"tloc": "50;est=70"}, "Header tloc: value: est=70 is over the limit of 50 ms."),
        ({"tloc": "60001"}, "Header tloc: value 60001 is over the longest limit accepted, 60000 ms."),
        ({"tloc": "50;colour=3"}, "Header tloc: value"),
        ({"tloc": "50", "backup": "svm;est=70"}, "Header backup: member 1 (svm): est=70 is over the limit of 50 ms."),
        ({"backup": "a b"}, "Header backup: "),
        ({"backup": ", ".join(f"m{n}" for n in range(9))}, "Header backup: the call would ask 10 models"),
        ({"primary": "svm"}, "Header primary: value is one inner list"),
        ({"tloc": "50", "tbms-key": "user 17"}, "Header tbms-key: "),
    ],
)
async def test_a_header_that_cannot_hold_is_named(
    stage: Stage, protocol: InferenceProtocol, headers: dict[str, str], says: str
) -> None:
    got = await stage.client.call(protocol, "bert", headers)
    assert got.status == ("INVALID_ARGUMENT" if protocol.is_grpc else 400)
    assert got.error.startswith(says)
    assert stage.puppet.calls == []


@pytest.mark.parametrize("protocol", [InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC])
async def test_a_grpc_deadline_is_a_limit(stage: Stage, protocol: InferenceProtocol) -> None:
    """The backup of the configuration answers in time by the client's deadline, before the configured limit."""
    stage.plays(patient=Part(1, seconds=None), svm=Part(2))
    got = await stage.client.call(protocol, "patient", timeout=2.0)
    assert (got.value, got.tell("why")) == (2, "overdue")
    assert float(got.tell("elapsed")) + float(got.tell("left")) <= 1850
    earlier = await stage.client.call(protocol, "patient", {"tloc": "400"}, timeout=2.0)
    assert float(earlier.tell("elapsed")) + float(earlier.tell("left")) == pytest.approx(400, abs=0.2)


@protocols
async def test_a_candidate_is_told_the_time_that_is_left(stage: Stage, protocol: InferenceProtocol) -> None:
    stage.plays(bert=Part(1, seconds=None), svm=Part(2))
    headers = {"tloc": "2000;est=100;answer=first", "backup": "svm;est=20"}
    if protocol.is_grpc:
        await stage.client.call(protocol, "bert", headers, timeout=30)
        primary, backup = [call.left for call in stage.puppet.calls]
        assert primary is not None
        assert backup is not None
        assert 0 < backup < primary <= 2.003, "what is left of the limit, not the client's own deadline"
    else:
        await stage.client.call(protocol, "bert", headers)
        # Envoy takes its own header off; the node must not see one that is not meant for it.
        assert [call.header("x-envoy-upstream-rq-timeout-ms") for call in stage.puppet.calls] == [None, None]


async def test_a_client_cannot_forge_the_mark_of_a_candidate(stage: Stage) -> None:
    stage.plays(known=Part(1, seconds=None), svm=Part(2))
    for protocol in PROTOCOLS:
        forged = {"x-tbms-hop": "0" * 32 + " 127.0.0.1:1", "x-tbms-node": "127.0.0.1:1"}
        got = await stage.client.call(protocol, "known", forged)
        assert (got.value, got.tell("why")) == (2, "overdue"), "it is raced all the same"
    assert {call.header("x-tbms-hop") for call in stage.puppet.calls} == {None}
    assert {call.header("x-tbms-node") for call in stage.puppet.calls} == {None}


async def test_limits_end_when_they_end(stage: Stage) -> None:
    """What a race says of itself is what its client sees: neither the server nor Envoy sits on an answer."""
    stage.plays(bert=Part(seconds=None), svm=Part(2))
    loop = asyncio.get_running_loop()
    began = loop.time()
    got = await stage.client.call(InferenceProtocol.V2_GRPC, "bert", {"tloc": "500;est=20", "backup": "svm;est=200"})
    assert got.value == 2
    assert loop.time() - began >= float(got.tell("elapsed")) / 1000
