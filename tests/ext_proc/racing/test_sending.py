"""Calls of ours to other zones, on a virtual clock: asked elsewhere where a node fails them, and what is told of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ext_proc.broker.plan import Candidate, Plan
from ext_proc.errors import CallError
from ext_proc.processing.decision import Seat
from ext_proc.upstream.client import Request, Response, UpstreamError
from ext_proc.wire.call import InferenceProtocol, Verb
from integration.virtual_time import run
from tests.ext_proc.racing.scene import Scene, Script, grpc_reply, held, plan, rest_reply, scene

AWAY = rest_reply(status=503)
PLAIN = Plan("bert", (Candidate("bert"),), float("inf"), races=False)


class Zone:
    """The upstream of a scene: what each far node does with a call; what is asked near by is answered."""

    def __init__(self, stage: Scene, **nodes: Response | UpstreamError) -> None:
        self.asked: list[str] = []
        self._nodes = nodes
        self._then = stage.upstream.call
        stage.upstream.call = self.call  # type: ignore[method-assign]
        stage.nodes.far = list(nodes)

    async def call(self, request: Request) -> Response:
        self.asked.append(request.nodes[0])
        await asyncio.sleep(0.01)
        end = self._nodes.get(request.nodes[0].removeprefix("@"))
        if end is None:
            return await self._then(request)
        if isinstance(end, UpstreamError):
            raise end
        return end


def playing(play: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with scene(bert=Script(0.001, rest_reply(b"near"))) as stage:
            await play(stage)
            assert stage.nodes.load == 0

    run(main())


@pytest.mark.parametrize(
    "failure",
    [
        AWAY,
        rest_reply(status=502),
        grpc_reply(status=14),
        UpstreamError("the call got no answer: the stream was reset"),
    ],
)
def test_a_call_that_a_far_node_fails_is_asked_of_the_next(failure: Response | UpstreamError) -> None:
    async def play(stage: Scene) -> None:
        zone = Zone(stage, c=failure, d=rest_reply(b"from d"))
        answer = await stage.race_runner.sender.answer(held(), PLAIN, 0.0)
        assert (answer.status, answer.body, zone.asked) == (200, b"from d", ["@c", "@d"])
        (_, cause), good = stage.outcomes
        assert cause is not None
        assert good == ("d", None)

    playing(play)


def test_at_the_end_a_node_of_this_zone_is_asked() -> None:
    async def play(stage: Scene) -> None:
        zone = Zone(stage, c=AWAY)
        answer = await stage.race_runner.sender.answer(held(), PLAIN, 0.0)
        assert (answer.body, len(zone.asked)) == (b"near", 2)

    playing(play)


def test_where_nobody_else_is_the_first_answer_stands() -> None:
    async def play(stage: Scene) -> None:
        stage.nodes.near = False
        zone = Zone(stage, c=rest_reply(b"why", status=503))
        answer = await stage.race_runner.sender.answer(held(), PLAIN, 0.0)
        assert (answer.status, answer.body, zone.asked) == (503, b"why", ["@c"])

    playing(play)


def test_a_call_that_was_reset_and_has_nowhere_to_go_is_unavailable() -> None:
    async def play(stage: Scene) -> None:
        stage.nodes.near = False
        Zone(stage, c=UpstreamError("the call got no answer: the stream was reset"))
        with pytest.raises(CallError, match="reset"):
            await stage.race_runner.sender.answer(held(), PLAIN, 0.0)

    playing(play)


def test_three_nodes_are_asked_at_most() -> None:
    async def play(stage: Scene) -> None:
        zone = Zone(stage, c=AWAY, d=AWAY, e=AWAY, f=rest_reply())
        assert (await stage.race_runner.sender.answer(held(), PLAIN, 0.0)).status == 503
        assert zone.asked == ["@c", "@d", "@e"]

    playing(play)


@pytest.mark.parametrize("status", [200, 404, 429, 500, 504])
def test_what_a_node_answers_stands(status: int) -> None:
    """Of a call that was late nobody knows whose fault that is."""

    async def play(stage: Scene) -> None:
        zone = Zone(stage, c=rest_reply(status=status), d=rest_reply())
        assert (await stage.race_runner.sender.answer(held(), PLAIN, 0.0)).status == status
        assert (zone.asked, stage.outcomes) == (["@c"], [] if status == 504 else [("c", None)])

    playing(play)


def test_what_never_left_this_machine_says_nothing_of_the_node() -> None:
    async def play(stage: Scene) -> None:
        Zone(stage, c=UpstreamError("the egress listener cannot be reached", refused=True))
        with pytest.raises(CallError):
            await stage.race_runner.sender.answer(held(), PLAIN, 0.0)
        assert stage.outcomes == []

    playing(play)


def test_what_may_not_be_asked_twice_is_not() -> None:
    async def play(stage: Scene) -> None:
        zone = Zone(stage, c=AWAY, d=rest_reply())
        call = held()
        for other in (
            replace(call, seat=Seat("c", "")),
            replace(call, call=replace(call.call, verb=Verb.SESSION_RUN)),
        ):
            zone.asked.clear()
            stage.nodes.far = ["c", "d"]
            assert (await stage.race_runner.sender.answer(other, PLAIN, 0.0)).status in (200, 503)
            assert len(zone.asked) == 1
        never = replace(stage.race_runner.sender, repeats=False)
        zone.asked.clear()
        assert (await never.answer(call, PLAIN, 0.0)).status == 503
        assert zone.asked == ["@c"]

    playing(play)


def test_a_candidate_goes_on_with_the_time_that_is_left() -> None:
    async def play(stage: Scene) -> None:
        zone = Zone(stage, c=AWAY, d=rest_reply(b"from d"))
        answer = await stage.race_runner.run(held(), plan("bert", limit_ms=500), 0.0)
        assert (answer.status, answer.body, zone.asked) == (200, b"from d", ["@c", "@d"])
        first, second = stage.nodes.limits[-2:]
        assert first == pytest.approx(0.5, abs=0.001)
        assert second == pytest.approx(0.49, abs=0.001)

    playing(play)


def test_a_call_to_another_zone_names_its_node_to_envoy() -> None:
    async def play(stage: Scene) -> None:
        stage.nodes.far = ["c"]
        await stage.race_runner.sender.answer(held(protocol=InferenceProtocol.TFS_REST), PLAIN, 0.0)
        ((_, request),) = stage.upstream.sent
        headers = dict(request.headers)
        assert headers["x-tbms-node"] == b"c"
        assert headers["x-tbms-hop"].endswith(b" @c")
        assert "x-envoy-upstream-rq-timeout-ms" not in headers, "it has no limit"
        assert "x-tbms-call" not in headers

    playing(play)
