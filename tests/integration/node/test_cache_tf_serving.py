"""The TF Serving loader against a peer that answers as TF Serving does, over gRPC on loopback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.model_cache.books.names import Key
from mesh.model_cache.loaders.loader import LoadFailed, ServerAway
from mesh.model_cache.loaders.tfserving import TfServingLoader, open_tf_serving
from tests.integration.node.cache_node import until
from tests.integration.node.tf_serving_peer import Status, TfServingPeer, serving

MODELS = Path("/models")
A, B, C = (Key(name, 1) for name in "abc")


@pytest.fixture
def peer() -> TfServingPeer:
    return TfServingPeer()


@pytest_asyncio.fixture(loop_scope="session")
async def loader(peer: TfServingPeer) -> AsyncIterator[TfServingLoader]:
    async with serving(peer) as address, open_tf_serving(address, MODELS, {"a": {"stable": 1}}) as opened:
        yield opened


async def load(loader: TfServingLoader, *keys: Key) -> None:
    await asyncio.gather(*(loader.load(key, MODELS / key.model) for key in keys))


async def test_every_list_is_the_full_list(loader: TfServingLoader, peer: TfServingPeer) -> None:
    await load(loader, A)
    await load(loader, B)
    await load(loader, Key("a", 2))
    assert peer.lists[-1] == {"a": [1, 2], "b": [1]}
    await loader.unload(A, MODELS)
    assert peer.lists[-1] == {"a": [2], "b": [1]}
    await loader.unload(B, MODELS)
    await loader.unload(Key("a", 2), MODELS)
    assert peer.lists[-1] == {}
    assert {state.state for state in peer.states.values()} == {Status.END}


async def test_many_loads_share_reloads_and_none_waits_for_a_slow_one(
    loader: TfServingLoader, peer: TfServingPeer
) -> None:
    first_may_end = peer.holds["first"] = asyncio.Event()
    slow_may_end = peer.holds["slow"] = asyncio.Event()
    first = asyncio.create_task(load(loader, Key("first", 1)))
    await until(lambda: len(peer.lists) == 1)
    quick = [Key(f"m{number}", 1) for number in range(20)]
    slow = asyncio.create_task(load(loader, Key("slow", 1)))
    others = asyncio.create_task(load(loader, *quick))
    names = ["slow", *(key.model for key in quick)]
    await until(lambda: all(peer.asked[name] > 1 for name in names))  # each wants to be in the next list
    first_may_end.set()
    await others
    assert not slow.done(), "went out in the same list, and was not waited for"
    assert set(peer.lists[1]) == {"first", *names}
    slow_may_end.set()
    await asyncio.gather(first, slow)
    assert len(peer.lists) <= 5


async def test_the_end_of_a_load_is_told_in_the_servers_words(loader: TfServingLoader, peer: TfServingPeer) -> None:
    peer.loads["b"] = (0.1, "Op type not registered 'Foo'")
    outcomes = await asyncio.gather(load(loader, A), load(loader, B), return_exceptions=True)
    assert outcomes[0] is None, "a neighbour in the same list is not touched"
    assert isinstance(outcomes[1], LoadFailed)
    assert str(outcomes[1]) == "Op type not registered 'Foo'"
    await load(loader, C)
    assert peer.lists[-1] == {"a": [1], "c": [1]}


async def test_the_end_of_an_earlier_load_is_not_taken_for_this_one(
    loader: TfServingLoader, peer: TfServingPeer
) -> None:
    await load(loader, Key("b", 2))
    peer.set("b", 1, Status.END, "an old story")
    await load(loader, B)
    assert peer.lists[-1] == {"b": [1, 2]}


async def test_a_refused_list(loader: TfServingLoader, peer: TfServingPeer) -> None:
    peer.refusal = "the list is refused"
    with pytest.raises(LoadFailed, match="the list is refused"):
        await load(loader, A)
    peer.refusal = ""
    await load(loader, B)
    assert peer.lists[-1] == {"b": [1]}


async def test_labels_follow_what_is_available(loader: TfServingLoader, peer: TfServingPeer) -> None:
    await load(loader, A)
    assert peer.labels == {"a": {"stable": 1, "latest": 1}}
    await load(loader, Key("a", 3))
    await load(loader, B)
    assert peer.labels["a"] == {"stable": 1, "latest": 3}
    await loader.unload(A, MODELS)
    assert peer.labels["a"] == {"latest": 3}


async def test_held_adopts_and_notices_a_restart(loader: TfServingLoader, peer: TfServingPeer) -> None:
    peer.set("a", 1, Status.AVAILABLE)
    peer.set("b", 1, Status.END)
    assert await loader.held([A, B, C]) == {A}
    await load(loader, C)
    assert peer.lists[-1] == {"a": [1], "c": [1]}
    peer.states.clear()
    assert await loader.held([]) == frozenset()
    await load(loader, B)
    assert peer.lists[-1] == {"b": [1]}


async def test_a_server_that_is_away() -> None:
    async with open_tf_serving("127.0.0.1:1", MODELS) as loader:
        with pytest.raises(ServerAway):
            await loader.held([A])
        with pytest.raises(ServerAway):
            await load(loader, A)
