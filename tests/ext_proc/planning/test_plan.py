"""Plans: the batch size, the rates, the GPUs, and the configuration that they come to."""

from dataclasses import replace
from math import inf
from random import Random

import pytest
import yaml

from ext_proc.batching.settings import BatchingSettings
from ext_proc.config import parse
from ext_proc.errors import TbmsError
from ext_proc.planning.configuration import read_batching, write_batching
from ext_proc.planning.curve import Curve, Point, straight
from ext_proc.planning.plan import SHARES, Plan, Wishes, batch_rows, make_plan, settings_for
from ext_proc.planning.simulation import Exponential

EXAMPLE = straight(0.020, 0.0, 10)
GROWING = Curve(tuple(Point(rows, 0.005 + 0.001 * rows) for rows in (1, 2, 4, 8, 16, 32)))


def chance() -> Exponential:
    return Random(1).expovariate


def plan(wishes: Wishes, curve: Curve = EXAMPLE) -> Plan:
    return make_plan(curve, wishes, chance, calls=500)


@pytest.fixture(scope="module")
def example() -> Plan:
    return plan(Wishes("bert", qps=200, lag=0.050, price=3.6))


def test_the_example(example: Plan) -> None:
    assert example.capacity == pytest.approx(500)
    assert [each.load.qps for each in example.by_qps] == pytest.approx([share * 500 for share in SHARES])
    (wanted,) = [each for each in example.by_qps if each.load.qps == 200]
    assert wanted.even == pytest.approx(0.0275)
    by_gpus = {each.load.gpus: each for each in example.by_gpus}
    assert [*by_gpus] == [1, 2, 3, 4]
    assert by_gpus[1] == wanted
    assert by_gpus[4].even == pytest.approx(0.020)
    assert example.needed == 1


def test_a_response_costs_what_its_share_of_the_gpus_costs(example: Plan) -> None:
    costs = {each.load.gpus: each.cost for each in example.by_gpus}
    assert costs[1] == pytest.approx(3.6 / (3600 * 200) * 1e6) == pytest.approx(5.0)
    assert costs[4] == pytest.approx(20.0)
    assert all(each.cost is None for each in plan(Wishes("bert", qps=100)).by_qps)


def test_lag_grows_with_the_rate_and_the_knee_is_before_it_does_so_quickly(example: Plan) -> None:
    means = [each.mean for each in example.by_qps]
    assert means == sorted(means)
    assert all(each.tail >= each.mean for each in example.by_qps)
    assert example.knee in example.by_qps
    assert example.knee is not None
    assert 0.5 < example.knee.load.share < 0.95


def test_two_plans_are_the_same(example: Plan) -> None:
    assert plan(example.wishes) == example


def test_rates_beyond_the_capacity_have_no_lag_and_the_fewest_gpus_that_keep_up_are_found() -> None:
    made = plan(Wishes("bert", qps=1700, lag=0.060))
    last = made.by_qps[-1]
    assert (last.load.qps, last.even, last.mean, last.tail) == (1700, inf, inf, inf)
    counts = [each.load.gpus for each in made.by_gpus]
    assert counts[:5] == [1, 4, 5, 6, 7]
    assert made.needed is not None
    tails = {each.load.gpus: each.tail for each in made.by_gpus}
    assert tails[made.needed] <= 0.060
    assert made.needed == 4 or tails.get(made.needed - 1, inf) > 0.060


def test_a_lag_that_no_number_of_gpus_gives() -> None:
    assert plan(Wishes("bert", qps=200, lag=0.019)).needed is None, "one row alone takes longer"
    assert plan(Wishes("bert", qps=4096, lag=0.021)).needed is None, "two in a hundred meet another, with each a GPU"


def test_gpus_of_one_node_share_a_queue_and_wait_less() -> None:
    apart, together = (plan(Wishes("bert", qps=600, gpus=4, gpus_per_node=each)) for each in (1, 4))
    assert [each.load.gpus for each in together.by_gpus] == [4, 8, 12, 16]
    four = apart.by_gpus[[each.load.gpus for each in apart.by_gpus].index(4)], together.by_gpus[0]
    assert four[1].mean < four[0].mean
    assert four[1].even < four[0].even
    assert together.settings.slots == 4


@pytest.mark.parametrize(("lag", "rows"), [(None, 32), (1.0, 32), (0.074, 32), (0.073, 16), (0.014, 2), (0.001, 1)])
def test_the_batch_is_the_largest_of_which_two_keep_the_lag(lag: float | None, rows: int) -> None:
    assert batch_rows(GROWING, lag) == rows


def test_a_larger_batch_that_answers_no_more_rows_is_not_taken() -> None:
    full = Curve((Point(1, 0.010), Point(8, 0.010), Point(16, 0.020), Point(32, 0.060)))
    assert batch_rows(full, None) == 8


def test_the_configuration_goes_through_the_settings_and_comes_back() -> None:
    settings = settings_for(GROWING.up_to(16), Wishes("bert", lag=0.0733, gpus_per_node=2))
    text = write_batching(settings)
    assert yaml.safe_load(text) == {
        "node": {
            "batching": {
                "slots": 2,
                "models": {"bert": {"cross_request": True, "cross_lag_ms": 52.3, "max_rows": 16}},
            }
        }
    }
    assert read_batching(text) == settings
    assert BatchingSettings.model_validate(settings.model_dump()) == settings


def test_a_batch_of_large_rows_is_given_its_bytes() -> None:
    mib = 1024 * 1024
    sizes = {None: 16 * mib, 1000: 16 * mib, mib // 2: 16 * mib, mib // 2 + 1: 17 * mib, 2**30: 2**31 - 1}
    for row_bytes, most in sizes.items():
        settings = settings_for(GROWING, Wishes("bert", row_bytes=row_bytes))
        assert settings.models["bert"].max_bytes == most
        assert read_batching(write_batching(settings)) == settings


def test_the_configuration_is_one_that_a_node_reads() -> None:
    made = plan(Wishes("modèle: 1", lag=0.050), GROWING)
    section = yaml.safe_load(write_batching(made.settings))["node"]["batching"]
    node = {
        "rest": "127.0.0.1:1",
        "store": {"url": "file:///models"},
        "cache": {
            "folder": "/tmp/cache",
            "loader": {"api": "v2", "address": "127.0.0.1:1"},
            "capacity": {"models": 4},
        },
        "batching": section,
    }
    config = parse(yaml.safe_dump({"server": {"listen": "unix:/tmp/s", "admin": "127.0.0.1:1"}, "node": node}), "x")
    assert config.node is not None
    assert config.node.batching == made.settings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"qps": 0}, "--qps: a number over 0"),
        ({"qps": float("nan")}, "--qps: .*nan"),
        ({"lag": -0.001}, r"--lag-ms: .*\(found -1\)"),
        ({"lag": 4000.0}, "--lag-ms: .*at most 3.6e"),
        ({"price": inf}, "--price: "),
        ({"gpus": 0}, "--gpus: a number from 1 to 4096"),
        ({"gpus_per_node": 0}, "--gpus-per-node: "),
        ({"gpus": 3, "gpus_per_node": 2}, "--gpus: 3 GPUs are no whole number of nodes of 2"),
        ({"qps": 1e8}, "--qps: .* more than 4096 GPUs"),
    ],
)
def test_what_cannot_be_wished_is_refused_by_its_flag(change: dict[str, float], says: str) -> None:
    with pytest.raises(TbmsError, match=f"^{says}"):
        plan(replace(Wishes("bert"), **change))  # type: ignore[arg-type]
