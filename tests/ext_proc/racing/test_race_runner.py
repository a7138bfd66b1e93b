"""Races on a virtual clock: who is asked when, what comes back, and that nothing stays behind."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.effects import Answer, Fail, Why
from ext_proc.broker.estimates import ENOUGH
from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix
from ext_proc.errors import CallError, Reason
from ext_proc.processing import decision
from ext_proc.processing.decision import Held
from ext_proc.upstream.client import UpstreamError
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.framing import frame
from integration.virtual_time import run
from mesh.routing.placement import RESIDENT, ExpectedWait
from tests.ext_proc.racing.scene import LIMIT, Scene, Script, held, plan, rest_reply, scene
from tests.left_behind import still_there, uncollected

COLD = ExpectedWait(cold=True)


def told(answer: decision.Respond) -> str:
    (header,) = [value for key, value in answer.headers if key == "tbms-answer"]
    return header.decode()


def playing(play: Callable[[Scene], Awaitable[None]], **scripts: Script) -> None:
    async def main() -> None:
        async with scene(**scripts) as stage:
            await play(stage)
            await asyncio.sleep(0)  # the report comes once the answer is on its way
            assert stage.nodes.load == len(stage.upstream.running)

    run(main())


def test_the_primary_answers_and_nobody_else_is_asked() -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.body == b"bert"
        assert told(answer).startswith("bert;rank=0;elapsed=5.0;why=primary;left=45.0;")
        assert asyncio.get_running_loop().time() == pytest.approx(0.005)
        assert list(stage.upstream.starts()) == ["bert"]
        # No timer is left that would keep the race, and the body of its call, until the limit.
        timers = asyncio.get_running_loop()._scheduled
        assert [timer for timer in timers if not timer.cancelled()] == []

    playing(play, bert=Script(0.005, rest_reply(b"bert")), svm=Script())


def test_a_slow_primary_is_backed_up_and_cancelled_when_the_time_is_up() -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.body == b"svm"
        assert told(answer).startswith("svm;rank=1;elapsed=48.0;why=overdue;left=2.0;")
        assert stage.upstream.starts() == {"bert": 0.0, "svm": pytest.approx(0.010)}
        await asyncio.sleep(0)
        assert stage.upstream.cancelled == ["bert"]
        assert stage.upstream.running == []

    playing(play, bert=Script(None), svm=Script(0.003, rest_reply(b"svm")))


def test_the_answer_does_not_wait_for_a_loser_that_is_slow_to_give_up() -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.body == b"svm"
        assert asyncio.get_running_loop().time() == pytest.approx(0.048)
        assert stage.upstream.running == ["bert"]

    playing(play, bert=Script(None, stubborn=5.0), svm=Script(0.003, rest_reply(b"svm")))


def test_a_result_that_comes_while_its_call_is_given_up_changes_nothing() -> None:
    async def play(stage: Scene) -> None:
        waits = stage.upstream.call

        async def answers_all_the_same(request: object) -> object:
            try:
                return await waits(request)
            except asyncio.CancelledError:
                return rest_reply(b"too late")

        stage.upstream.call = answers_all_the_same
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.body == b"svm"
        await asyncio.sleep(1)
        assert [type(race.outcome) for race, _ in stage.reports] == [Answer]

    playing(play, bert=Script(None), svm=Script(0.003, rest_reply(b"svm")))


def test_a_failed_primary_is_replaced_at_once() -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.body == b"svm"
        assert "why=failed" in told(answer)
        assert stage.upstream.starts()["svm"] == pytest.approx(0.001)

    playing(play, bert=Script(0.001, rest_reply(b"", 500)), svm=Script(0.002, rest_reply(b"svm")))


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (rest_reply(b"", 503), "refused"),
        (rest_reply(b"", 429), "refused"),
        (rest_reply(b"", 504), "failed"),
        (UpstreamError("no connection", refused=True), "refused"),
        (UpstreamError("cut off"), "failed"),
        (CallError(Reason.UNAVAILABLE, "No model server is alive."), "refused"),
        (CallError(Reason.UNSUPPORTED, "V2 has no version labels."), "failed"),
        (ZeroDivisionError("a mistake of ours"), "failed"),
    ],
)
def test_why_says_whether_any_work_was_done(end: object, why: str, caplog: pytest.LogCaptureFixture) -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.body == b"svm"
        assert f"why={why}" in told(answer)

    playing(play, bert=Script(0.001, end), svm=Script(0.002, rest_reply(b"svm")))
    assert ("candidate failed" in caplog.text) is isinstance(end, ZeroDivisionError)


def test_nobody_is_alive() -> None:
    async def play(stage: Scene) -> None:
        stage.nodes.dead = True
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert (answer.status, b"No model server is alive" in answer.body) == (503, True)
        assert asyncio.get_running_loop().time() == 0
        assert stage.upstream.sent == []

    playing(play)


def test_nobody_answers_in_time() -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm"), 0.0)
        assert answer.status == 504
        assert asyncio.get_running_loop().time() == pytest.approx(0.050)
        await asyncio.sleep(0)
        assert sorted(stage.upstream.cancelled) == ["bert", "svm"]

    playing(play, bert=Script(None), svm=Script(None))


def test_a_limit_that_has_passed_on_arrival_asks_nobody() -> None:
    async def play(stage: Scene) -> None:
        await asyncio.sleep(1)
        answer = await stage.race_runner.run(held(), plan("bert", limit_ms=50), 0.9)
        assert answer.status == 504
        assert "why=expired" in told(answer)
        assert stage.upstream.sent == []

    playing(play)


def test_the_first_answer_is_taken_where_the_call_says_so() -> None:
    async def play(stage: Scene) -> None:
        answer = await stage.race_runner.run(held(), plan("bert", "svm", answer=AnswerMode.FIRST), 0.0)
        assert answer.body == b"svm"
        assert asyncio.get_running_loop().time() == pytest.approx(0.013)

    playing(play, bert=Script(0.020, rest_reply(b"bert")), svm=Script(0.003, rest_reply(b"svm")))


PREDICTIONS = {name: rest_reply(b'{"predictions": [%d]}' % n) for name, n in (("a", 1), ("b", 4))}


def test_a_mix_starts_together_and_is_one_answer() -> None:
    async def play(stage: Scene) -> None:
        both = Mix((Candidate("a", estimate_ms=10), Candidate("b", estimate_ms=10)), How.MAX)
        answer = await stage.race_runner.run(held(), plan(both), 0.0)
        assert answer.body.split() == b'{"predictions": [4]}'.split()
        assert stage.upstream.starts() == {"a": 0.0, "b": 0.0}
        assert told(answer).startswith("(a b);rank=0;elapsed=6.0;why=primary;left=44.0;mix=max")

    playing(play, a=Script(0.004, PREDICTIONS["a"]), b=Script(0.006, PREDICTIONS["b"]))


def test_a_mix_that_breaks_in_our_hands_gives_way_to_the_backup(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("nested too deeply")

    monkeypatch.setattr("ext_proc.racing.member_replies.decode_outputs", broken)

    async def play(stage: Scene) -> None:
        both = Mix((Candidate("a", estimate_ms=10), Candidate("b", estimate_ms=10)), How.MAX)
        answer = await stage.race_runner.run(held(), plan(both, "svm"), 0.0)
        assert answer.body == b"svm"

    playing(play, a=Script(0.004), b=Script(0.006), svm=Script(0.001, rest_reply(b"svm")))
    assert "mix failed" in caplog.text


def test_a_mix_that_fits_and_cannot_be_written_is_an_error_of_the_call() -> None:
    async def play(stage: Scene) -> None:
        both = Mix((Candidate("a", estimate_ms=10), Candidate("b", estimate_ms=10)), How.MAX)
        answer = await stage.race_runner.run(held(), plan(both), 0.0)
        assert answer.status == Reason.BROKEN_MODEL.http
        assert told(answer).startswith("bert;elapsed=6.0;why=failed")

    half = rest_reply(b'{"predictions": [1], "id": "\\ud83d"}')
    playing(play, a=Script(0.004, half), b=Script(0.006, half))


class BrokenBudget(TokenBucket):
    """A mistake of ours, deep inside the race."""

    def take(self, cost_ms: float) -> bool:
        raise ZeroDivisionError


def test_a_mistake_in_the_race_itself_is_an_error_and_not_a_hang() -> None:
    async def play(stage: Scene) -> None:
        broken = replace(stage.race_runner, budget=BrokenBudget(0.2, 500.0))
        with pytest.raises(ZeroDivisionError):
            await broken.run(held(), plan("bert", "svm"), 0.0)
        await asyncio.sleep(0)
        assert stage.upstream.cancelled == ["bert"]
        assert len(stage.reports) == 1

    playing(play, bert=Script(None), svm=Script(None))


class TestReport:
    def test_once_for_each_race_after_its_answer(self) -> None:
        async def play(stage: Scene) -> None:
            call = held()
            await stage.race_runner.run(call, plan("bert"), 0.0)
            assert stage.reports == []
            await asyncio.sleep(0)
            ((race, reported),) = stage.reports
            assert reported is call
            assert isinstance(race.outcome, Answer)
            await asyncio.sleep(10)
            assert len(stage.reports) == 1

        playing(play, bert=Script(0.001))

    def test_a_report_that_fails_costs_no_answer(self) -> None:
        async def main() -> None:
            async with scene(bert=Script(0.001, rest_reply(b"bert"))) as stage:
                failures: list[dict[str, object]] = []
                asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
                broken = replace(stage.race_runner, report=lambda race, held: 1 / 0)
                answer = await broken.run(held(), plan("bert"), 0.0)
                assert answer.body == b"bert"
                await asyncio.sleep(0)
                assert isinstance(failures[0]["exception"], ZeroDivisionError)

        run(main())


class TestEstimates:
    def test_answers_are_observed_by_model_and_path(self) -> None:
        async def main() -> None:
            cold = {"svm"}
            async with scene(
                wait_of=lambda model: COLD if model in cold else RESIDENT,
                bert=Script(0.020),
                svm=Script(0.020),
            ) as stage:
                clock = asyncio.get_running_loop().time
                for model in ("bert", "svm"):
                    for _ in range(ENOUGH):
                        await stage.race_runner.run(held(), plan(model), clock())
                now = clock()
                assert stage.estimates.of(Candidate("bert"), RESIDENT, now).ms == pytest.approx(20, rel=0.06)
                assert stage.estimates.of(Candidate("svm"), COLD, now).ms == pytest.approx(20, rel=0.06)
                assert stage.estimates.of(Candidate("svm"), RESIDENT, now).ms == 50  # the default

        run(main())

    def test_a_backup_that_is_always_too_late_is_started_earlier(self) -> None:
        async def main() -> None:
            # Declared to take 5 ms, it takes 20: at T - 5 - m it would be too late for ever.
            async with scene(bert=Script(None), svm=Script(0.020, rest_reply(b"svm"))) as stage:
                clock = asyncio.get_running_loop().time
                asked = plan(Candidate("bert", estimate_ms=50), Candidate("svm", estimate_ms=5))
                answers = [await stage.race_runner.run(held(), asked, clock()) for _ in range(10 * ENOUGH)]
                assert answers[0].status == 504
                assert [answer.body for answer in answers[-ENOUGH:]] == [b"svm"] * ENOUGH

        run(main())

    @pytest.mark.parametrize("end", [rest_reply(b"", 500), UpstreamError("cut off")])
    def test_failures_are_not(self, end: object) -> None:
        async def play(stage: Scene) -> None:
            for _ in range(2 * ENOUGH):
                await stage.race_runner.run(held(), plan("bert"), asyncio.get_running_loop().time())
            estimate = stage.estimates.of(Candidate("bert"), RESIDENT, asyncio.get_running_loop().time())
            assert estimate.ms == 50

        playing(play, bert=Script(0.001, end))


SCENES: dict[str, dict[str, Script]] = {
    "primary answers": {"bert": Script(0.005), "svm": Script(0.005), "bayes": Script(0.005)},
    "backup is held, then returned": {"bert": Script(None), "svm": Script(0.005), "bayes": Script(0.001)},
    "all fail": {name: Script(0.003, rest_reply(b"", 500)) for name in ("bert", "svm", "bayes")},
    "nobody answers": {name: Script(None) for name in ("bert", "svm", "bayes")},
    "slow to give up": {name: Script(None, stubborn=0.02) for name in ("bert", "svm", "bayes")},
    "the server fails": {name: Script(0.002, ValueError("a mistake of ours")) for name in ("bert", "svm", "bayes")},
}


class Steps:
    """Counts the turns of the loop in which something is done, and cancels a task before one of them."""

    def __init__(self, task: asyncio.Task[object], at: int | None) -> None:
        self.turns = 0
        self._task, self._at = task, at
        self._loop = asyncio.get_running_loop()

    async def drive(self) -> None:
        """Until the task has ended: between the turns that the race causes, time jumps to its next timer."""
        while not self._task.done():
            if self.turns == self._at:
                self._task.cancel()
            self.turns += 1
            await asyncio.sleep(0 if self.turns % 5 else 0.0005)


@pytest.mark.parametrize("name", SCENES)
def test_a_client_may_leave_at_any_moment(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled before every turn of its life, a race leaves no call running, no task, and exactly one report."""

    def attempt(at: int | None) -> int:
        async def main() -> int:
            async with scene(**SCENES[name]) as stage:
                before = asyncio.all_tasks()
                task = asyncio.create_task(stage.race_runner.run(held(), plan("bert", "svm", "bayes"), 0.0))
                steps = Steps(task, at)
                await steps.drive()
                if at is None:
                    assert isinstance(task.result(), decision.Respond)
                else:
                    assert task.cancelled() or isinstance(task.result(), decision.Respond)
                for _ in range(5):
                    await asyncio.sleep(0)
                slow = any(script.stubborn for script in SCENES[name].values())
                await asyncio.sleep(0.03 if slow else 0)
                assert stage.upstream.running == []
                assert stage.nodes.load == 0
                assert asyncio.all_tasks() == before
                begun = at is None or at > 0  # a task that is cancelled before its first turn has not begun
                assert len(stage.reports) == begun
                assert all(race.over for race, _ in stage.reports)
                sent = len(stage.upstream.sent)
                await asyncio.sleep(1)
                assert len(stage.upstream.sent) == sent
                return steps.turns

        return run(main())

    turns = attempt(None)
    assert turns > 15
    for at in range(turns + 1):
        attempt(at)


def test_a_thousand_races_that_wait_cost_nothing() -> None:
    """Each waits on one timer: no callback of the loop runs between its starts and its end."""

    async def play(stage: Scene) -> None:
        loop = asyncio.get_running_loop()
        races = [
            asyncio.create_task(stage.race_runner.run(held(), plan("bert", limit_ms=30_000), loop.time()))
            for _ in range(1000)
        ]
        await asyncio.sleep(0.001)
        assert len(stage.upstream.running) == 1000
        turns = loop.turns
        await asyncio.sleep(20)
        # The wake-up of this test itself, and the end of its sleep.
        assert loop.turns - turns <= 3
        answers = await asyncio.gather(*races)
        assert {answer.status for answer in answers} == {504}
        assert loop.time() == pytest.approx(30.0)
        # All limits end at once: three turns for the timers and the answers, not some for each race.
        assert loop.turns - turns < 20

    playing(play, bert=Script(None))


def test_grpc_calls_are_raced_with_bare_messages() -> None:
    async def play(stage: Scene) -> None:
        message = b"\x0a\x04bert\x32\x00"
        call: Held = held(protocol=InferenceProtocol.V2_GRPC, body=frame(message)).unpacked(LIMIT)
        await stage.race_runner.run(call, plan("bert"), 0.0)
        ((_, request),) = stage.upstream.sent
        assert tuple(request.body) == (message,)

    playing(play, bert=Script())


def test_the_outcome_of_a_race_that_failed_is_in_its_report() -> None:
    async def play(stage: Scene) -> None:
        await stage.race_runner.run(held(), plan("bert"), 0.0)
        await asyncio.sleep(0)
        ((race, _),) = stage.reports
        assert isinstance(race.outcome, Fail)
        assert race.outcome.why is Why.FAILED

    playing(play, bert=Script(0.001, rest_reply(b"", 500)))


def test_the_nodes_of_one_race_are_told_the_same_race_and_what_is_left() -> None:
    async def play(stage: Scene) -> None:
        for _ in range(2):
            began = asyncio.get_running_loop().time()
            await stage.race_runner.run(held(), plan("bert", "svm", cross_lag_ms=4.0), began)
        told = [dict(request.headers)["x-tbms-call"].decode() for _, request in stage.upstream.sent]
        assert told == ["50;race=r0;lag=4", "40;race=r0;lag=4;rank=1", "50;race=r1;lag=4", "40;race=r1;lag=4;rank=1"]

    playing(play, bert=Script(0.020), svm=Script(None))


@pytest.mark.parametrize(
    "last",
    [Script(0.003, UpstreamError("no")), Script(0.003, CallError(Reason.INTERNAL, "no")), Script(0.003), Script(None)],
)
def test_a_call_is_let_go_with_its_race_and_not_by_the_garbage_collector(last: Script) -> None:
    body = secrets.token_bytes(8)

    async def play(stage: Scene) -> None:
        await stage.race_runner.run(held(body=body), plan("bert", "svm"), 0.0)
        await asyncio.sleep(0)
        stage.reports.clear()
        stage.upstream.sent.clear()

    with uncollected():
        playing(play, bert=Script(None), svm=last)
        assert not [each for each in still_there(Held) if body in each.chunks]
