import math
import os
import random
import subprocess
import sys
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.routing.rendezvous import Rendezvous
from tests.mesh.routing.population import models

GOLDEN = {
    "digits": ["d", "a", "c", "b", "e"],
    "tenant-7/ranker": ["c", "e", "a", "b", "d"],
    "модель": ["a", "b", "c", "e", "d"],
    "": ["a", "c", "e", "b", "d"],
}
WEIGHTED = [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 0.5), ("e", 1.0)]

ids = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


def order(ranking: Rendezvous, model: str) -> list[str]:
    return [ranking.ids[index] for index in ranking.order(model)]


def by_the_definition(population: list[tuple[str, float]], model: str) -> list[str]:
    """The same order in plain integers and floats, from the papers and not from the code under test."""

    def hashed(text: str, purpose: bytes) -> int:
        return int.from_bytes(blake2b(text.encode(), digest_size=8, person=purpose).digest(), "big")

    scores = []
    for name, weight in population:
        x = hashed(name, b"tbms node") ^ hashed(model, b"tbms model")
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        x ^= x >> 31
        scores.append((-math.log(((x >> 11) + 0.5) * 2**-53) / weight, name))
    return [name for _, name in sorted(scores)]


def fleet(count: int, weight: float = 1.0) -> list[tuple[str, float]]:
    return [(f"node-{number}", weight) for number in range(count)]


def test_the_order_is_the_one_that_every_other_process_works_out() -> None:
    ranking = Rendezvous(WEIGHTED)
    assert {model: order(ranking, model) for model in GOLDEN} == GOLDEN


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_order_does_not_depend_on_the_hash_seed(seed: str) -> None:
    program = (
        "from tests.mesh.routing.test_rendezvous import GOLDEN, WEIGHTED, Rendezvous, order\n"
        "ranking = Rendezvous(reversed(WEIGHTED))\n"
        "print({model: order(ranking, model) for model in GOLDEN} == GOLDEN)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True\n"


@given(ids, st.text(max_size=20), st.lists(st.sampled_from([0.1, 1.0, 7.0]), min_size=12, max_size=12))
def test_the_order_is_the_one_of_the_definition(names: list[str], model: str, weights: list[float]) -> None:
    population = list(zip(names, weights, strict=False))
    assert order(Rendezvous(population), model) == by_the_definition(population, model)


@given(ids, st.text(max_size=20), st.randoms(use_true_random=False))
def test_every_node_stands_once_in_the_order_however_the_nodes_came(
    names: list[str], model: str, rng: random.Random
) -> None:
    population = [(name, rng.choice([0.5, 1.0, 3.0])) for name in names]
    shuffled = rng.sample(population, len(population))
    first = order(Rendezvous(population), model)
    assert sorted(first) == sorted(names)
    assert first == order(Rendezvous(shuffled), model)


@given(ids.filter(lambda names: len(names) > 1), st.text(max_size=20), st.data())
def test_a_node_that_leaves_changes_nothing_in_the_order_of_the_others(
    names: list[str], model: str, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(names))
    before = order(Rendezvous((name, 1.0) for name in names), model)
    after = order(Rendezvous((name, 1.0) for name in names if name != gone), model)
    assert after == [name for name in before if name != gone]


@pytest.mark.parametrize("count", [3, 10, 30, 100])
def test_a_join_moves_a_fair_share_of_the_models_and_only_to_the_new_node(count: int) -> None:
    names = models(10_000)
    before, after = Rendezvous(fleet(count)), Rendezvous(fleet(count + 1))
    moved = [model for model in names if order(before, model)[0] != order(after, model)[0]]
    assert {order(after, model)[0] for model in moved} == {f"node-{count}"}
    share = 10_000 / (count + 1)
    assert abs(len(moved) - share) <= 4 * share**0.5  # four standard deviations of the binomial


@pytest.mark.parametrize("count", [3, 10, 30, 100])
def test_the_models_spread_evenly(count: int) -> None:
    ranking = Rendezvous(fleet(count))
    homes = [0] * count
    for model in models(10_000):
        homes[ranking.order(model)[0]] += 1
    expected = 10_000 / count
    chi_square = sum((held - expected) ** 2 / expected for held in homes)
    freedom = count - 1
    assert chi_square <= freedom + 4 * (2 * freedom) ** 0.5


def test_weights_are_honoured_at_every_place() -> None:
    weights = [("small", 1.0), ("middle", 2.0), ("large", 5.0)]
    ranking = Rendezvous(weights)
    orders = [order(ranking, model) for model in models(10_000)]
    firsts = {name: sum(found[0] == name for found in orders) for name, _ in weights}
    for name, weight in weights:
        expected = 10_000 * weight / 8
        assert abs(firsts[name] - expected) <= 4 * expected**0.5
    after_large = [found[1] for found in orders if found[0] == "large"]
    assert abs(after_large.count("middle") - len(after_large) * 2 / 3) <= 4 * len(after_large) ** 0.5


def test_a_heavier_node_only_gains_models() -> None:
    before = Rendezvous(fleet(10))
    after = Rendezvous([*fleet(9), ("node-9", 2.0)])
    for model in models(2_000):
        old, new = order(before, model)[0], order(after, model)[0]
        assert new in (old, "node-9")


def test_neighbouring_names_have_unrelated_homes() -> None:
    ranking = Rendezvous(fleet(10))
    same = sum(ranking.order(f"m{n}")[0] == ranking.order(f"m{n + 1}")[0] for n in range(5_000))
    assert abs(same - 500) <= 4 * 500**0.5


def test_nobody_is_a_population_too() -> None:
    assert Rendezvous([]).order("digits") == []
