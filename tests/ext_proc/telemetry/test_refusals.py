"""A burst of refused calls is one line and a count; virtual time."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from ext_proc.errors import CallError, Reason
from ext_proc.telemetry.refusals import SECONDS, Refusals
from integration.virtual_time import VirtualLoop

WHOSE = {"model": "m", "request_id": None}


def play(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int | None]]:
    return [(each.getMessage(), each.reason, getattr(each, "calls", None)) for each in caplog.records]  # type: ignore[attr-defined]


def test_the_first_is_told_at_once_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        refusals = Refusals()
        for _ in range(200):
            refusals.add(CallError(Reason.UNAVAILABLE, "Busy."), WHOSE)
        refusals.add(CallError(Reason.NO_ROOM, "Too large."), WHOSE)
        assert lines(caplog) == [("call refused", "UNAVAILABLE", None), ("call refused", "NO_ROOM", None)]
        assert (caplog.records[0].cause, caplog.records[0].model) == ("Busy.", "m")  # type: ignore[attr-defined]
        caplog.clear()
        await asyncio.sleep(SECONDS + 1)
        assert lines(caplog) == [("more calls refused", "UNAVAILABLE", 199)]
        caplog.clear()
        refusals.add(CallError(Reason.UNAVAILABLE, "Busy."), WHOSE)
        await asyncio.sleep(SECONDS + 1)
        assert lines(caplog) == [("call refused", "UNAVAILABLE", None)]

    play(scenario())


@pytest.mark.parametrize(("level", "told"), [(logging.DEBUG, 3), (logging.INFO, 0)])
def test_what_a_client_did_wrong_is_for_debugging(caplog: pytest.LogCaptureFixture, level: int, told: int) -> None:
    async def scenario() -> None:
        refusals = Refusals()
        for _ in range(3):
            refusals.add(CallError(Reason.INVALID, "Bad."), WHOSE)
        await asyncio.sleep(SECONDS + 1)

    with caplog.at_level(level, logger="ext_proc"):
        play(scenario())
    assert len(caplog.records) == told
