"""What TF Serving's status and its answer to the reload tell of a load, row by row."""

import asyncio
from typing import Any

import pytest

from mesh.model_cache.loaders.loader import LoadFailed, ServerAway
from mesh.model_cache.loaders.tfserving import is_loaded
from mesh.protos import tfs_pb2 as pb

STATES = pb.ModelVersionStatus
PENDING = "pending"
OUTCOMES = (PENDING, None, LoadFailed("refused"), ServerAway("away"))


async def judged(state: int | None, outcome: Any, earlier_end: bool = False, message: str = "") -> bool:
    status = None if state is None else pb.ModelVersionStatus(state=state)  # type: ignore[arg-type]
    if status is not None:
        status.status.error_message = message
    reload = asyncio.get_running_loop().create_future()
    if outcome is not PENDING:
        reload.set_result(outcome)
    return is_loaded(status, reload, earlier_end)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("earlier_end", [False, True])
async def test_an_available_version_is_loaded_whatever_the_reload_says(outcome: Any, earlier_end: bool) -> None:
    assert await judged(STATES.AVAILABLE, outcome, earlier_end)


@pytest.mark.parametrize("state", [None, STATES.START, STATES.LOADING, STATES.UNLOADING, STATES.END])
async def test_a_server_that_is_away_ends_the_load(state: int | None) -> None:
    with pytest.raises(ServerAway, match="away"):
        await judged(state, ServerAway("away"))


@pytest.mark.parametrize("state", [None, STATES.START, STATES.LOADING, STATES.UNLOADING, STATES.END])
async def test_nothing_is_over_before_the_reload_is_answered(state: int | None) -> None:
    assert not await judged(state, PENDING)


@pytest.mark.parametrize("state", [STATES.START, STATES.LOADING, STATES.UNLOADING])
@pytest.mark.parametrize("outcome", [None, LoadFailed("of another model")])
async def test_a_version_on_its_way_is_waited_for(state: int, outcome: Any) -> None:
    assert not await judged(state, outcome)


async def test_a_list_that_was_refused_is_told_in_the_words_of_the_reload() -> None:
    assert not await judged(None, None)
    with pytest.raises(LoadFailed, match="refused"):
        await judged(None, LoadFailed("refused"))


@pytest.mark.parametrize(
    ("outcome", "message", "words"),
    [
        (None, "no such op", "no such op"),
        (LoadFailed("refused"), "no such op", "no such op"),
        (LoadFailed("refused"), "", "refused"),
        (None, "", "it was unloaded again at once"),
    ],
)
async def test_an_end_after_the_reload_is_the_end_of_this_load(outcome: Any, message: str, words: str) -> None:
    assert not await judged(STATES.END, outcome, earlier_end=True, message=message)
    with pytest.raises(LoadFailed, match=words):
        await judged(STATES.END, outcome, message=message)
