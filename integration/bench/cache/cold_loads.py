"""Hits on one real node (Envoy, tbms, model server), with and without models being fetched and loaded beside them."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random

import aiohttp

from integration.bench.cache.wide_model import FEATURES, write_model
from integration.bench.open_loop import Play, Sample, open_loop, quantile
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.process import ProcessError

# Simulated: what a model of 300 MiB takes.
LOAD_DELAY_MS = 400.0
# From the start of the load generator's process to its first call.
_LEAD_SECONDS = 3.0
_TIMEOUT = 5.0
_SLOTS = 8
_COLD_MODELS = 2 * _SLOTS
# 4 MiB of weights: a real fetch and a real load, beside the simulated time.
_WIDTH = 16_384
_HIT = "hit"
_SEED = 20_240_917


@dataclass(frozen=True)
class Pair:
    """Neighbouring rounds, in ms: hits alone, hits beside cold calls, and those cold calls."""

    quiet: Sequence[float]
    beside: Sequence[float]
    cold: Sequence[float]


@dataclass(frozen=True)
class Schedule:
    """`pairs` of rounds of `seconds` each, one with `cold_rate` cold calls a second and one without, after a warm-up.

    In both there are `rate` hits a second. Rounds are short and many: what else runs on a machine comes and goes, and
    a median over the pairs does not see what hits the smaller part of them.
    """

    pairs: int = 28
    seconds: float = 2.0
    rate: float = 100.0
    # What a node of the fleet in virtual time loads.
    cold_rate: float = 2.0
    warm_up: float = 2.0

    def starts(self, pair: int) -> tuple[float, float]:
        """When a pair's rounds begin, in seconds: the one with cold loads, and the one without.

        Each comes first in turn, so that a machine that grows slower favours neither.
        """
        first = self.warm_up + 2 * pair * self.seconds
        second = first + self.seconds
        return (second, first) if pair % 2 == 0 else (first, second)

    def hits(self) -> list[float]:
        """When hits are due, in seconds: at random times (Poisson), the same in both rounds of a pair."""
        dice = Random(_SEED)

        def at_random(seconds: float) -> list[float]:
            return sorted(dice.uniform(0.0, seconds) for _ in range(round(self.rate * seconds)))

        due = at_random(self.warm_up)
        for pair in range(self.pairs):
            times = at_random(self.seconds)
            due += [start + time for start in sorted(self.starts(pair)) for time in times]
        return due

    def cold_calls(self, pair: int) -> list[float]:
        """When a pair's cold calls are due; none so late that it would reach into the next round if all is well."""
        start, _ = self.starts(pair)
        return [start + number / self.cold_rate for number in range(max(1, int((self.seconds - 0.5) * self.cold_rate)))]

    def cut(self, samples: Sequence[Sample], cold: Sequence[Sequence[float]]) -> list[Pair]:
        """The samples of `hits()` by rounds; `cold` is what the cold calls of each pair took, in ms.

        Raises ProcessError if a hit was not answered: there would be nothing to compare.
        """
        lost = sum(not sample.answered for sample in samples)
        if lost:
            raise ProcessError(f"{lost} of {len(samples)} hits had no answer.")

        def of(start: float) -> list[float]:
            first = round(start * self.rate)
            return [sample.ms for sample in samples[first : first + round(self.seconds * self.rate)]]

        rounds = map(self.starts, range(self.pairs))
        return [Pair(of(quiet), of(beside), calls) for (beside, quiet), calls in zip(rounds, cold, strict=True)]


def slowdown(pairs: Sequence[Pair], share: float) -> float:
    """A quantile of the hits beside cold loads / the same without them: the median of the ratios of the pairs."""
    return statistics.median(quantile(pair.beside, share) / quantile(pair.quiet, share) for pair in pairs)


async def rounds(schedule: Schedule) -> list[Pair]:
    """Plays them on a node of its own. Raises ProcessError if a hit is lost or a cold call was not cold."""
    with tempfile.TemporaryDirectory(prefix="tbms-cold-") as name:
        folder = Path(name)
        shelf = folder / "shelf"
        write_model(shelf, _HIT, width=16)
        others = [f"cold-{number}" for number in range(_COLD_MODELS)]
        for model in others:
            write_model(shelf, model, _WIDTH, load_delay_ms=LOAD_DELAY_MS)
        spec = CachedSpec("node", cache={"capacity": {"models": _SLOTS}, "poll_seconds": 2.0})
        async with CachedNode(spec, shelf, folder / "node") as node, aiohttp.ClientSession(node.agent.http) as http:
            # Asked for in turn, each is the one unused for longest: always gone when its turn comes again.
            turns = cycle(others)
            await _call(http, _HIT)
            for _ in range(_SLOTS):  # from now on a cold call also unloads something
                await _call(http, next(turns))
            begin = time.monotonic() + _LEAD_SECONDS
            play = Play(node.agent.target, _HIT, _TIMEOUT, [(at, {}) for at in schedule.hits()], begin=begin)
            async with asyncio.TaskGroup() as tasks:
                hits = tasks.create_task(open_loop(play, folder))
                cold = [await _loads(http, turns, begin, schedule.cold_calls(pair)) for pair in range(schedule.pairs)]
        return schedule.cut(hits.result(), cold)


async def _loads(http: aiohttp.ClientSession, models: Iterator[str], begin: float, due: Sequence[float]) -> list[float]:
    """Cold calls for one round; what they took, in ms."""
    calls = []
    async with asyncio.TaskGroup() as tasks:
        for at in due:
            await asyncio.sleep(begin + at - time.monotonic())
            calls.append(tasks.create_task(_call(http, next(models))))
    took = [call.result() for call in calls]
    if min(took) < LOAD_DELAY_MS:
        raise ProcessError(f"A call that was to be cold took {min(took):.0f} ms only.")
    return took


async def _call(http: aiohttp.ClientSession, model: str) -> float:
    began = time.monotonic()
    async with http.post(f"/v1/models/{model}:predict", json={"instances": [[0.25] * FEATURES]}) as reply:
        text = await reply.text()
        if reply.status != 200:
            raise ProcessError(f"A call for {model} was answered with {reply.status}: {text[:200]}")
    return 1000 * (time.monotonic() - began)
