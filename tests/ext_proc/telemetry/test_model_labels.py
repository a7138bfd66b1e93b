"""Which models become label values: the most used of those that exist, and seldom other ones."""

from ext_proc.telemetry.model_labels import OTHER, REVIEW_SECONDS, ModelLabels
from ext_proc.telemetry.tallies import Spread, Tally


class Clock:
    """Says what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def labels(clock: Clock, most: int = 2) -> ModelLabels:
    return ModelLabels(lambda model: model.startswith("m"), clock, most)


def test_the_names_of_requests_make_no_labels_but_models_that_answer_do() -> None:
    named = labels(Clock())
    assert [named.of("guess") for _ in range(3)] == [OTHER] * 3
    assert named.of("guess", answered=True) == "guess"
    assert named.of("guess") == "guess"


def test_so_many_models_have_labels_and_all_others_share_one() -> None:
    named = labels(Clock())
    assert [named.of(f"m{n}") for n in range(4)] == ["m0", "m1", OTHER, OTHER]
    assert named.of("m0") == "m0"


def test_a_model_that_is_used_more_gets_the_label_of_the_least_used_at_a_review() -> None:
    clock = Clock()
    named = labels(clock)
    gone: list[str] = []
    named.retired.append(gone.append)
    for _ in range(5):
        named.of("m0")
    named.of("m1")
    assert {named.of("m2") for _ in range(9)} == {OTHER}
    clock.now = REVIEW_SECONDS
    assert named.of("m2") == "m2"
    assert gone == ["m1"]
    assert (named.of("m0"), named.of("m1")) == ("m0", OTHER)


def test_between_reviews_and_for_little_more_use_the_labels_stay() -> None:
    clock = Clock()
    named = labels(clock, most=1)
    for _ in range(10):
        named.of("m0")
    clock.now = REVIEW_SECONDS - 1
    assert {named.of("m1") for _ in range(19)} == {OTHER}
    clock.now = REVIEW_SECONDS
    assert named.of("m1") == OTHER, "twice the uses are asked for, not the same"
    assert {named.of("m1") for _ in range(50)} == {OTHER}, "the next review is an hour away"
    clock.now = 2 * REVIEW_SECONDS
    assert named.of("m1") == "m1", "uses count since the last review"


def test_the_models_that_wait_for_a_label_are_bounded() -> None:
    named = labels(Clock(), most=1)
    for n in range(10_500):
        named.of(f"m{n}")
    assert len(named._waiting) == 10_000


def test_series_of_a_label_that_is_gone_are_dropped() -> None:
    tally, spread = Tally("t", "Some.", ["model", "why"]), Spread("s", "Some.", ["model"], (1.0,))
    for model in ("m0", "m1"):
        tally.counts[model, "a"] += 1
        tally.counts[model, "b"] += 1
        spread.observe((model,), 0.5)
    tally.forget("m0")
    spread.forget("m0")
    assert set(tally.counts) == {("m1", "a"), ("m1", "b")}
    assert (spread.count(("m0",)), spread.count(("m1",))) == (0, 1)
