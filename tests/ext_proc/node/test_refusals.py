"""Calls that the node's policy refuses, and how that reads to the client."""

from pathlib import Path

import pytest

from ext_proc.errors import Reason
from ext_proc.node.refusals import refusal
from ext_proc.processing.decision import Pass
from ext_proc.wire.call import InferenceProtocol, Verb
from ext_proc.wire.reply import error_reply
from mesh.model_cache.errors import BadName, Busy, CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.model_cache.stores.store import StoreError
from tests.ext_proc.node.calls import call, give_back, outcome, policy_of, refused
from tests.mesh.model_cache.cache import Cache, play

SECRET = "HTTP 403 from bucket models-prod, key AKIA"


@pytest.mark.parametrize(
    ("error", "reason", "retry_after"),
    [
        (BadName("A.", SECRET), Reason.INVALID, None),
        (ModelMissing("A.", SECRET), Reason.NOT_FOUND, None),
        (ModelBroken("A.", SECRET), Reason.BROKEN_MODEL, None),
        (StoreAway("A.", SECRET), Reason.UNAVAILABLE, None),
        (NoRoom("A.", SECRET), Reason.NO_ROOM, None),
        (Busy("A.", SECRET, 2.5), Reason.UNAVAILABLE, "3"),
        (CacheError("A.", SECRET), Reason.INTERNAL, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CacheError) else None,
)
@pytest.mark.parametrize("protocol", InferenceProtocol)
def test_clients_get_the_message_and_never_the_cause(
    error: CacheError, reason: Reason, retry_after: str | None, protocol: InferenceProtocol
) -> None:
    told = refusal(error)
    assert (told.reason, told.message) == (reason, "A.")
    assert told.elsewhere is isinstance(error, Busy)
    reply = error_reply(protocol, told)
    assert dict(reply.headers).get("retry-after") == retry_after
    assert SECRET.encode() not in reply.body


def test_a_missing_model(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            error = await refused(policy_of(cache), call())
            assert (error.reason, error.message) == (Reason.NOT_FOUND, "No store has a model 'm'.")

    play(tmp_path, scenario)


def test_a_name_that_no_store_allows(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            for verb in (Verb.INFER, Verb.READY):
                error = await refused(policy_of(cache), call("..", verb))
                assert error.reason is Reason.INVALID
            assert not cache.store.listed

    play(tmp_path, scenario)


def test_a_model_larger_than_the_node_tells_both_sizes(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", size=5000)
        async with cache.running():
            error = await refused(policy_of(cache), call())
            assert error.reason is Reason.NO_ROOM
            assert "takes 4.883 KiB of disk, and the node has 1000 bytes" in error.message

    play(tmp_path, scenario, capacity={"disk_bytes": 1000})


def test_a_store_that_refuses_us_is_not_the_clients_to_know(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.error = StoreError(SECRET)
        async with cache.running():
            error = await refused(policy_of(cache), call())
            assert error.reason is Reason.UNAVAILABLE
            assert SECRET not in error.message
            assert cache.manager.status().store == {"m": SECRET}

    play(tmp_path, scenario)


def test_a_model_that_does_not_load_is_told_in_the_servers_words(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.server.broken["m"] = "weights of another model"
        async with cache.running():
            policy = policy_of(cache)
            for _ in range(2):  # the second time by the back-off
                error = await refused(policy, call())
                assert error.reason is Reason.BROKEN_MODEL
                assert "weights of another model" in error.message
            assert len(cache.server.loads) == 1

    play(tmp_path, scenario)


def test_a_node_without_room_says_when_to_come_back(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.put("other")
        async with cache.running():
            policy = policy_of(cache)
            kept = await outcome(policy, call("other"))
            assert isinstance(kept, Pass)
            error = await refused(policy, call())
            assert (error.reason, error.retry_after) == (Reason.UNAVAILABLE, 1.0)
            give_back(kept)
            assert isinstance(await outcome(policy, call()), Pass)

    play(tmp_path, scenario, capacity={"models": 1})


@pytest.mark.parametrize("why", ["broken", "missing", "too large", "store away"])
def test_readiness_of_a_model_that_cannot_be_had_is_the_servers_to_deny(tmp_path: Path, why: str) -> None:
    async def scenario(cache: Cache) -> None:
        if why != "missing":
            cache.store.put("m", size=10**6 if why == "too large" else 100)
        if why == "broken":
            cache.server.broken["m"] = "weights of another model"
        if why == "store away":
            cache.store.error = StoreError(SECRET)
        async with cache.running():
            assert await outcome(policy_of(cache), call(verb=Verb.READY)) == Pass()

    play(tmp_path, scenario, capacity={"disk_bytes": 1000})
