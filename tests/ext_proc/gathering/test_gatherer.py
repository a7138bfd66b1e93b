"""Calls in, batches out: what each caller gets, whatever becomes of the others."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ext_proc.batching.settings import BatchingSettings, InputPadding, ModelBatching, PaddedOutput
from ext_proc.batching.terms import Terms
from ext_proc.batching.waiting import Dropped
from ext_proc.errors import CallError, Reason
from ext_proc.gathering.batch_call import Outcome
from ext_proc.gathering.company import UNFIT_SECONDS
from ext_proc.processing.decision import Held
from ext_proc.upstream.client import Response
from integration.virtual_time import run
from tests.ext_proc.gathering.scene import POISON, SECONDS, Scene, answer_of, held, held_long, scene
from tests.left_behind import still_there, uncollected


def playing(play: Callable[[Scene], Awaitable[None]], **batching: Any) -> None:
    async def main() -> None:
        async with scene(**batching) as stage:
            await play(stage)

    run(main())


async def begun(stage: Scene, *calls: asyncio.Task[Any]) -> None:
    """Every task has come as far as it can without time passing."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_each_gets_its_own_rows() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.5))
        await begun(stage)
        others = [stage.ask(held(*map(float, range(i, 2 * i)))) for i in range(1, 4)]
        assert answer_of(await first) == [1.0]
        assert [answer_of(await one) for one in others] == [[2.0], [4.0, 6.0], [6.0, 8.0, 10.0]]
        assert len(stage.server.batches) == 2
        assert asyncio.get_running_loop().time() == pytest.approx(2 * SECONDS)

    playing(play)


def test_a_call_that_goes_alone_goes_as_it_came() -> None:
    async def play(stage: Scene) -> None:
        odd = held(
            body=b'{"inputs": [ {"name":"x","shape":[],"datatype":"FP64","data":[3.0]} ], "odd":1}',
            headers={"x-mine": "1"},
        )
        await stage.ask(odd)
        (request,) = stage.server.requests
        assert b"".join(request.body) == odd.chunks[0]
        assert ("x-mine", b"1") in request.headers
        assert sum(stage.report.reasons.values()) == 1

    playing(play)


def test_what_steers_does_not_reach_the_model_server() -> None:
    async def play(stage: Scene) -> None:
        await stage.ask(held(1.0, headers={"x-tbms-call": "5", "tloc": "50", "x-tbms-hop": "x", "grpc-timeout": "5S"}))
        (request,) = stage.server.requests
        assert {"x-tbms-call", "tloc", "x-tbms-hop", "grpc-timeout"}.isdisjoint(key for key, _ in request.headers)

    playing(play)


def test_calls_share_only_where_the_headers_that_count_are_equal_and_the_server_gets_those() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        mine = [stage.ask(held(1.0, headers={"tenant": "a", "x-request-id": str(i)})) for i in range(2)]
        other = stage.ask(held(1.0, headers={"tenant": "b"}))
        await asyncio.gather(first, *mine, other)
        assert [len(batch.members) for batch in stage.report.batches] == [1, 2, 1]
        headers = dict(stage.server.requests[1].headers)
        assert headers["tenant"] == b"a"
        assert "x-request-id" not in headers

    playing(play, key_headers=("tenant",))


def test_one_that_hangs_up_neither_delays_nor_fails_its_neighbours() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        gone, stays = stage.ask(held(1.0)), stage.ask(held(2.0))
        await begun(stage)
        gone.cancel()
        assert answer_of(await first) == [0.0]
        assert answer_of(await stays) == [4.0]
        assert stage.server.batches == [[0.0], [2.0]]
        assert gone.cancelled()

    playing(play)


def test_one_that_hangs_up_while_its_batch_runs_leaves_it_whole() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        gone, stays = stage.ask(held(1.0)), stage.ask(held(2.0))
        await first
        await begun(stage)
        gone.cancel()
        assert answer_of(await stays) == [4.0]
        assert stage.server.given_up == 0
        assert stage.server.batches == [[0.0], [1.0, 2.0]]

    playing(play)


def test_nobody_waits_for_a_device_that_a_gone_caller_has_left_busy() -> None:
    async def play(stage: Scene) -> None:
        gone = stage.ask(held(1.0))
        await begun(stage)
        gone.cancel()
        await begun(stage)
        assert answer_of(await stage.ask(held(2.0))) == [4.0]
        assert asyncio.get_running_loop().time() == pytest.approx(2 * SECONDS)

    playing(play)


def test_a_poisoned_call_fails_alone_in_the_servers_own_words() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        calls = [stage.ask(held(POISON if i == 5 else float(i))) for i in range(8)]
        await first
        for i, call in enumerate(calls):
            response = await call
            if i == 5:
                assert (response.status, response.body) == (500, b'{"error":"poisoned"}')
            else:
                assert answer_of(response) == [2.0 * i]
        assert stage.report.outcomes == {Outcome.ANSWERED: 4, Outcome.AGAIN: 3, Outcome.FAILED: 1}

    playing(play)


def test_a_server_that_is_away_is_asked_once() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        calls = [stage.ask(held(1.0)) for _ in range(4)]
        await first
        stage.server.away = True
        for call in calls:
            # The batch of four is on its way; what comes after it is refused.
            answer_of(await call)
        with pytest.raises(CallError) as caught:
            await stage.ask(held(1.0))
        assert caught.value.reason is Reason.UNAVAILABLE
        assert len(stage.server.requests) == 3

    playing(play)


def test_a_server_that_never_answers_does_not_hold_the_device_for_ever() -> None:
    async def play(stage: Scene) -> None:
        stage.server.hangs = True
        call = stage.ask(held(0.0))
        await begun(stage)
        stage.server.hangs = False
        waiting = stage.ask(held(1.0))
        with pytest.raises(CallError) as caught:
            await call
        assert caught.value.reason is Reason.UNAVAILABLE
        assert answer_of(await waiting) == [2.0]

    playing(play, batch_seconds=5.0)


def test_a_model_whose_reply_does_not_fit_is_asked_call_by_call_from_then_on() -> None:
    async def play(stage: Scene) -> None:
        stage.server.forgets_rows = True
        first = stage.ask(held(0.0))
        await begun(stage)
        calls = [stage.ask(held(float(i))) for i in range(3)]
        await first
        assert [answer_of(await call) for call in calls] == [[0.0], [2.0], [4.0]]
        assert stage.report.outcomes[Outcome.UNFIT] == 1
        more = [stage.ask(held(1.0)) for _ in range(3)]
        await asyncio.gather(*more)
        assert [len(batch.members) for batch in stage.report.batches[-3:]] == [1, 1, 1]
        assert stage.report.reasons == {"unfit": 3}
        await asyncio.sleep(UNFIT_SECONDS)
        stage.server.forgets_rows = False
        await asyncio.gather(*[stage.ask(held(1.0)) for _ in range(3)])
        assert len(stage.report.batches[-1].members) == 2

    playing(play)


def test_a_call_of_more_rows_than_a_batch_is_asked_in_pieces() -> None:
    async def play(stage: Scene) -> None:
        rows = [float(i) for i in range(20)]
        assert answer_of(await stage.ask(held(*rows))) == [2 * row for row in rows]
        assert [len(batch) for batch in stage.server.batches] == [8, 8, 4]

    playing(play)


def test_a_piece_that_fails_fails_the_call() -> None:
    async def play(stage: Scene) -> None:
        response = await stage.ask(held(*[POISON if i == 12 else 0.0 for i in range(20)]))
        assert response.status == 500

    playing(play)


def test_where_pieces_are_forbidden_a_large_call_is_refused() -> None:
    async def play(stage: Scene) -> None:
        with pytest.raises(CallError) as caught:
            await stage.ask(held(*[0.0] * 20))
        assert caught.value.reason is Reason.TOO_LARGE
        assert "20 rows" in caught.value.message

    playing(play, default=ModelBatching(cross_request=True, max_rows=8, split=False))


def test_a_batch_is_filled_up_and_nobody_sees_it() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        calls = [stage.ask(held(1.0)), stage.ask(held(2.0, 3.0))]
        await first
        assert [answer_of(await call) for call in calls] == [[2.0], [4.0, 6.0]]
        assert stage.server.batches == [[0.0, 0.0], [1.0, 2.0, 3.0, 3.0]]

    playing(play, default=ModelBatching(cross_request=True, max_rows=4, allowed_rows=(2, 4)))


def long_answer(response: Response) -> list[float]:
    (output,) = json.loads(response.body)["outputs"]
    assert output["shape"] == [1, len(output["data"])]
    numbers: list[float] = output["data"]
    return numbers


def test_calls_of_unequal_sizes_share_a_batch_in_a_common_bucket() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held_long(0.0))
        await begun(stage)
        calls = [stage.ask(held_long(1.0)), stage.ask(held_long(2.0, 3.0, 4.0)), stage.ask(held_long(*[5.0] * 5))]
        assert long_answer(await first) == [0.0]
        assert [long_answer(await call) for call in calls] == [[2.0], [4.0, 6.0, 8.0], [10.0] * 5]
        # Without company a call goes as it came.
        assert stage.server.batches == [[0.0], [1.0, 9.0, 9.0, 9.0, 2.0, 3.0, 4.0, 9.0], [5.0] * 5]

    padding = InputPadding(input="x", buckets=(4, 8), value=9, outputs=(PaddedOutput(name="y"),))
    playing(play, default=ModelBatching(cross_request=True, max_rows=8, pad=(padding,)))


def test_pieces_of_a_padded_call_are_cut_back_even_without_company() -> None:
    async def play(stage: Scene) -> None:
        content = {"inputs": [{"name": "x", "shape": [3, 1], "datatype": "FP64", "data": [1.0, 2.0, 3.0]}]}
        response = await stage.ask(held(body=json.dumps(content).encode()))
        assert answer_of(response) == [2.0, 4.0, 6.0]
        assert stage.server.batches == [[1.0, 0.0, 2.0, 0.0], [3.0, 0.0]]

    padding = InputPadding(input="x", buckets=(2,), outputs=(PaddedOutput(name="y"),))
    playing(play, default=ModelBatching(cross_request=True, max_rows=2, pad=(padding,)))


def test_a_model_whose_output_is_not_as_large_as_configured_is_batched_no_more() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held_long(0.0))
        await begun(stage)
        calls = [stage.ask(held_long(1.0)), stage.ask(held_long(2.0, 3.0))]
        await first
        assert [long_answer(await call) for call in calls] == [[2.0], [4.0, 6.0]]
        assert stage.server.batches[2:] == [[1.0], [2.0, 3.0]]
        await stage.ask(held_long(1.0))
        assert stage.report.reasons == {"unfit": 1}

    padding = InputPadding(input="x", buckets=(4,), outputs=(PaddedOutput(name="y", dim=2),))
    playing(play, default=ModelBatching(cross_request=True, max_rows=8, pad=(padding,)))


def test_a_call_that_cannot_be_in_time_is_refused_at_once() -> None:
    async def play(stage: Scene) -> None:
        await stage.ask(held(0.0))
        busy = [stage.ask(held(0.0)) for _ in range(3)]
        await begun(stage)
        with pytest.raises(CallError) as caught:
            await stage.ask(held(1.0), Terms(limit_ms=25.0))
        assert (caught.value.reason, caught.value.why) == (Reason.DEADLINE, "late")
        assert stage.report.refused == {Dropped.LATE: 1}
        await asyncio.gather(*busy)

    playing(play)


def test_one_that_wants_no_company_goes_alone() -> None:
    async def play(stage: Scene) -> None:
        calls = [stage.ask(held(1.0), Terms(shares=False)) for _ in range(3)]
        await asyncio.gather(*calls)
        assert [len(batch.members) for batch in stage.report.batches] == [1, 1, 1]

    playing(play)


def test_a_model_that_is_not_listed_is_gathered_only_where_a_call_asks_for_it() -> None:
    async def play(stage: Scene) -> None:
        wants = stage.gatherer.wants
        assert (wants("m", Terms()), wants("m", Terms(shares=True)), wants("listed", Terms())) == (False, True, True)

    playing(play, default=ModelBatching(), models={"listed": ModelBatching()})


def test_at_the_end_what_runs_is_given_up() -> None:
    async def main() -> None:
        async with scene() as stage:
            stage.server.hangs = True
            call = stage.ask(held(0.0))
            await begun(stage)
        assert stage.server.given_up == 1
        call.cancel()

    run(main())


@pytest.mark.parametrize("turns", range(12))
def test_whoever_hangs_up_at_whatever_turn_leaves_nothing_behind(turns: int) -> None:
    """A call passes through reading, waiting and its batch; it may end in each."""

    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        gone, stays = stage.ask(held(*[1.0] * 12)), stage.ask(held(2.0))
        for _ in range(turns):
            await asyncio.sleep(SECONDS / 4)
        gone.cancel()
        assert answer_of(await first) == [0.0]
        assert answer_of(await stays) == [4.0]
        await asyncio.wait([gone])

    playing(play)


class TestChecks:
    async def pair(self, stage: Scene) -> None:
        """Two calls in company, and time for whatever comes after."""
        first = stage.ask(held(0.0))
        await begun(stage)
        await asyncio.gather(first, stage.ask(held(1.0)), stage.ask(held(2.0)))
        await asyncio.sleep(1)

    def test_a_share_of_the_answers_is_compared_and_counted(self) -> None:
        async def play(stage: Scene) -> None:
            await self.pair(stage)
            assert stage.report.checks == [True]
            assert stage.server.batches == [[0.0], [1.0, 2.0], [2.0]]

        playing(play, check_share=0.5, chance=lambda: 0.4)

    def test_the_others_are_not(self) -> None:
        async def play(stage: Scene) -> None:
            await self.pair(stage)
            assert stage.report.checks == []

        playing(play, check_share=0.5, chance=lambda: 0.5)

    def test_a_model_that_minds_company_is_only_counted(self) -> None:
        async def play(stage: Scene) -> None:
            stage.server.minds_company = True
            await self.pair(stage)
            await self.pair(stage)
            assert stage.report.checks == [False, False]

        playing(play, check_share=1)

    def test_unless_it_is_to_be_exact_then_it_goes_alone(self) -> None:
        async def play(stage: Scene) -> None:
            stage.server.minds_company = True
            await self.pair(stage)
            assert stage.report.checks == [False]
            await self.pair(stage)
            assert stage.server.batches[3:] == [[0.0], [1.0], [2.0]]
            assert stage.report.reasons == {"unfit": 3}

        playing(play, default=ModelBatching(cross_request=True, exact=True))

    def test_a_comparison_waits_for_every_call_that_somebody_waits_for(self) -> None:
        async def play(stage: Scene) -> None:
            calls = [stage.ask(held(float(i))) for i in range(20)]
            await asyncio.gather(*calls)
            assert stage.report.checks == []
            await asyncio.sleep(1)
            assert stage.report.checks

        playing(play, check_share=1)

    def test_nobody_would_look(self) -> None:
        with pytest.raises(ValueError, match="check_share is 0"):
            BatchingSettings(default=ModelBatching(exact=True), check_share=0)


def test_a_call_is_let_go_with_its_end_and_not_by_the_garbage_collector() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await begun(stage)
        with pytest.raises(CallError):
            await stage.ask(held(7.0), Terms(limit_ms=1.0))
        gone = stage.ask(held(7.0))
        await begun(stage)
        gone.cancel()
        await asyncio.wait([first, gone, stage.ask(held(7.0))])
        stage.server.requests.clear()
        stage.report.batches.clear()

    with uncollected():
        playing(play)
        assert not [each for each in still_there(Held) if b"7.0" in b"".join(each.chunks)]
