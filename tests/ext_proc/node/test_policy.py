"""The node's policy before a real model cache, in virtual time: what it passes, what it holds, what replies tell it."""

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ext_proc.contract import KNOWN_METHODS
from ext_proc.errors import CallError, Reason
from ext_proc.known.forms import Form
from ext_proc.node.policy import NodePolicy
from ext_proc.processing.decision import HeaderMutation, Held, Hold, Pass
from ext_proc.processing.request import BodyMode, Head, ReplyPart, parse
from ext_proc.wire.call import InferenceProtocol, Verb
from mesh.model_cache.books.names import Key
from mesh.session_claim import SessionClaim, write_claim
from tests.ext_proc.node.calls import HEAD, call, give_back, in_flight, leased, outcome, policy_of, refused
from tests.ext_proc.processing import envoy_says as envoy
from tests.mesh.model_cache.cache import Cache, play

POLL_SECONDS = 600.0


def test_a_hit_asks_nobody(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy = policy_of(cache)
            first = await outcome(policy, call())
            asked = (cache.server.calls, cache.store.listed.total(), cache.store.fetched.total())
            hits = [policy.decide(HEAD, call(version=version), 0.0) for version in (None, "1", None)]
            assert (cache.server.calls, cache.store.listed.total(), cache.store.fetched.total()) == asked
            assert in_flight(cache) == 4
            for decision in (first, *hits):
                assert isinstance(decision, Pass)
                give_back(decision)
            assert in_flight(cache) == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize("verb", [Verb.STATUS, Verb.STATISTICS])
def test_questions_about_what_is_loaded_load_nothing(tmp_path: Path, verb: Verb) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            assert policy_of(cache).decide(HEAD, call(verb=verb), 0.0) == Pass()
            await asyncio.sleep(10)
            assert not cache.store.listed
            (await cache.manager.ensure("m")).release()
            assert policy_of(cache).decide(HEAD, call(verb=verb), 0.0) == Pass()

    play(tmp_path, scenario)


@pytest.mark.parametrize("verb", sorted(set(Verb) - {Verb.STATUS, Verb.STATISTICS}))
def test_every_other_call_brings_its_model(tmp_path: Path, verb: Verb) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            decision = await outcome(policy_of(cache), call(verb=verb))
            assert isinstance(decision, Pass)
            assert leased(decision) == Key("m", 1)
            assert cache.state("m") == "available"

    play(tmp_path, scenario)


def test_held_calls_share_one_fetch_and_one_load(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy = policy_of(cache)
            decisions = await asyncio.gather(*(outcome(policy, call()) for _ in range(200)))
            assert (cache.store.fetched, cache.server.loads) == ({Key("m", 1): 1}, [Key("m", 1)])
            assert in_flight(cache) == 200
            for decision in decisions:
                assert isinstance(decision, Pass)
                give_back(decision)
            assert in_flight(cache) == 0

    play(tmp_path, scenario)


def test_versions_and_labels(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for version in (1, 2, 3):
            cache.store.put("m", version)
        async with cache.running():
            policy = policy_of(cache)
            for asked, version in (
                (call(), 3),
                (call(version="1"), 1),
                (call(label="stable"), 2),
                (call(label="latest"), 3),
            ):
                decision = await outcome(policy, asked)
                assert isinstance(decision, Pass)
                assert leased(decision) == Key("m", version)
            assert (await refused(policy, call(version="4"))).reason is Reason.NOT_FOUND
            assert (await refused(policy, call(label="none such"))).reason is Reason.NOT_FOUND

    play(tmp_path, scenario, labels={"m": {"stable": 2}})


def test_a_call_of_a_session_holds_its_model_on_until_its_last(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        def head(last: bool = False) -> Head:
            claim = write_claim(SessionClaim("a" * 32, 60, last))
            return replace(HEAD, headers={**HEAD.headers, "x-tbms-session": claim})

        cache.store.put("m")
        async with cache.running():
            policy = policy_of(cache)
            assert isinstance(policy.decide(head(), call(), 0.0), Hold)
            first = await policy.resolve(Held(head(), call(), ()))
            again = policy.decide(head(), call(), 0.0)
            for decision in (first, again):
                assert isinstance(decision, Pass)
                give_back(decision)
            assert in_flight(cache) == len(cache.manager.sessions) == 1
            unload = asyncio.create_task(cache.manager.commands.unload("m"))
            await asyncio.sleep(1)
            assert isinstance(policy.decide(HEAD, call(), 0.0), Hold), "it is on its way out"
            last = policy.decide(head(last=True), call(), 0.0)
            assert isinstance(last, Pass)
            give_back(last)
            await unload
            assert in_flight(cache) == len(cache.manager.sessions) == 0

    play(tmp_path, scenario)


def test_a_claim_that_no_edge_writes_holds_nothing(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            (await cache.manager.ensure("m")).release()
            head = replace(HEAD, headers={**HEAD.headers, "x-tbms-session": "a;idle=1"})
            decision = policy_of(cache).decide(head, call(), 0.0)
            assert isinstance(decision, Pass)
            give_back(decision)
            assert in_flight(cache) == 0

    play(tmp_path, scenario)


def test_a_model_that_takes_too_long_is_loaded_all_the_same(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.seconds = 20
        async with cache.running():
            policy = policy_of(cache, hold_seconds=5)
            error = await refused(policy, call())
            assert (error.reason, error.message) == (Reason.UNAVAILABLE, "Model 'm' is still being loaded.")
            assert asyncio.get_running_loop().time() == pytest.approx(1005)
            await asyncio.sleep(30)
            assert isinstance(policy.decide(HEAD, call(), 0.0), Pass)
            assert cache.store.fetched == {Key("m", 1): 1}
            assert in_flight(cache) == 1

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "headers", [{"tloc": "3000"}, {"grpc-timeout": "3S"}, {"x-envoy-expected-rq-timeout-ms": "3000"}]
)
def test_a_call_is_not_held_longer_than_its_caller_waits(tmp_path: Path, headers: dict[str, str]) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.seconds = 20
        async with cache.running():
            head = Head(headers, end_of_stream=False, mode=BodyMode.NONE)
            begun = asyncio.get_running_loop().time()
            with pytest.raises(CallError, match="not loaded within the call's limit of 3000 ms") as caught:
                await policy_of(cache, hold_seconds=5).resolve(Held(head, call(), ()))
            assert caught.value.reason is Reason.DEADLINE
            assert asyncio.get_running_loop().time() - begun == pytest.approx(3)
            await asyncio.sleep(30)
            assert cache.state("m") == "available"

    play(tmp_path, scenario)


def _reply(message: bytes) -> ReplyPart:
    return ReplyPart(parse(message))


def test_an_edge_that_asks_is_told_how_the_model_stands(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy = policy_of(cache)
            decision = await outcome(policy, call())
            assert isinstance(decision, Pass)
            asking = Head(dict(HEAD.headers) | {"x-tbms-residency": "?1"}, end_of_stream=False, mode=BodyMode.NONE)
            ok = _reply(envoy.response_headers())
            assert policy.replied(decision, HEAD, call(), ok, 0.0) is None
            assert policy.replied(decision, asking, call(), ok, 0.0) == HeaderMutation(
                headers=(("x-tbms-residency", "available"),)
            )
            assert policy.replied(Pass(), asking, call(), ok, 0.0) is None  # a question about the server's state
            assert (
                policy.replied(decision, asking, call(), _reply(envoy.response_headers(503)), 0.0) is None
            )  # it is in doubt
            cache.manager.node_report.leave()
            assert policy.replied(decision, asking, call(), ok, 0.0) == HeaderMutation(
                headers=(("x-tbms-residency", "available;leaving"),)
            )
            give_back(decision)

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("message", "suspicious"),
    [
        (envoy.response_headers(503), True),
        (envoy.response_headers(404), True),
        (envoy.response_headers(200, end=True, grpc_status="14"), True),
        (envoy.response_headers(200, end=True, grpc_status="5"), True),
        (envoy.response_trailers(grpc_status="14"), True),
        (envoy.response_headers(200), False),
        (envoy.response_headers(400), False),
        (envoy.response_headers(200, end=True, grpc_status="3"), False),
        (envoy.response_trailers(grpc_status="0"), False),
    ],
    ids=["503", "404", "UNAVAILABLE", "NOT_FOUND", "late UNAVAILABLE", "200", "400", "INVALID_ARGUMENT", "OK"],
)
def test_a_restarted_model_server_is_noticed_by_the_first_call_that_fails(
    tmp_path: Path, message: bytes, suspicious: bool
) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy = policy_of(cache)
            decision = await outcome(policy, call())
            assert isinstance(decision, Pass)
            cache.server.held_now.clear()  # restarted behind a proxy that keeps the connection
            policy.replied(decision, HEAD, call(), _reply(message), 0.0)
            give_back(decision)
            await asyncio.sleep(POLL_SECONDS / 2)
            assert (cache.server.loads == [Key("m", 1)] * 2) is suspicious

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


@pytest.mark.parametrize(
    ("message", "headers", "version", "noted"),
    [
        (envoy.response_headers(200), {}, None, [("m", int(Form.V2_INFER))]),
        (envoy.response_headers(200), {}, "1", []),
        (envoy.response_headers(500), {}, None, []),
        (envoy.response_headers(404), {}, None, []),
        (envoy.response_headers(200), {"x-tbms-model": "m"}, None, []),
        (envoy.response_trailers(grpc_status="0"), {"x-tbms-model": "m"}, None, [("m", int(Form.GRPC))]),
        (envoy.response_trailers(grpc_status="0"), {}, None, []),
        (envoy.response_trailers(grpc_status="14"), {"x-tbms-model": "m"}, None, []),
    ],
    ids=["REST", "a version", "500", "404", "gRPC has begun", "gRPC", "named by its message", "gRPC has failed"],
)
def test_a_call_that_went_well_is_noted_in_its_form(
    tmp_path: Path, message: bytes, headers: dict[str, str], version: str | None, noted: list[tuple[str, int]]
) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        heard: list[tuple[str, int]] = []
        async with cache.running():
            policy = NodePolicy(
                cache.manager, 1 << 20, 60.0, None, lambda model, form, now: heard.append((model, form))
            )
            grpc = bool(headers) or b"grpc-status" in message
            path = KNOWN_METHODS[-1] if grpc else "/v2/models/m/infer"
            head = Head({":path": path, **headers}, end_of_stream=False, mode=BodyMode.NONE)
            asked = (
                replace(call(version=version), protocol=InferenceProtocol.V2_GRPC) if grpc else call(version=version)
            )
            decision = await outcome(policy, asked)
            assert isinstance(decision, Pass)
            policy.replied(decision, head, asked, _reply(message), 0.0)
            give_back(decision)
        assert heard == noted

    play(tmp_path, scenario)


def test_a_server_that_is_busy_all_the_time_is_looked_at_no_more_often_than_any_other(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        looks: list[float] = []
        held, now = cache.server.held, asyncio.get_running_loop().time

        async def seen(known: Iterable[Key]) -> frozenset[Key]:
            looks.append(now())
            return await held(known)

        cache.server.held = seen  # type: ignore[method-assign]
        async with cache.running():
            await asyncio.sleep(1000)
            begun = now()
            looks.clear()
            for _ in range(6000):
                cache.manager.suspect_server()
                await asyncio.sleep(0.1)
        assert looks[0] - begun < 0.1
        pauses = [later - earlier for earlier, later in itertools.pairwise(looks)]
        assert pauses == pytest.approx([12, 24, 48] + [60] * len(pauses[3:]), abs=0.2)

    play(tmp_path, scenario, poll_seconds=60.0)
