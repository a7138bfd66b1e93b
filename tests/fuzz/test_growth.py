"""What counts as growing too fast, with steps in the place of time."""

from random import Random

from tests.fuzz.growth import Repeated, exponent, guess, is_too_steep
from tests.fuzz.target import Target

INPUT = Repeated(b"head", b"unit", b"tail")


def test_a_square_is_too_steep_and_a_line_is_not() -> None:
    assert not is_too_steep(lambda data: len(data) * 1e-6, INPUT)
    assert is_too_steep(lambda data: len(data) ** 2 * 1e-9, INPUT)
    assert not is_too_steep(lambda data: 1e-9 * len(data) ** 2 if len(data) < 1 << 15 else 2.0, INPUT)  # bounded


def test_the_exponent_is_that_of_the_cost() -> None:
    assert abs(exponent(lambda data: len(data) ** 1.5 * 1e-7, INPUT) - 1.5) < 0.01
    assert exponent(lambda data: 1e-9 * len(data), INPUT) == 0.0, "too short to tell"


def test_a_slow_input_is_not_made_larger_still() -> None:
    sizes: list[int] = []

    def cost(data: bytes) -> float:
        sizes.append(len(data))
        return len(data) ** 3 * 1e-12

    assert exponent(cost, INPUT) > 2.9
    assert max(sizes) < 1 << 18


def test_guesses_are_made_of_the_corpus_and_the_words() -> None:
    target = Target(lambda data: None, (), (b"[",))
    guesses = [guess(target, [b"abcdef"], Random(n)) for n in range(50)]
    assert all(b"abcdef".startswith(each.head) for each in guesses)
    assert {each.unit for each in guesses} >= {b"["}
    assert len(guesses[0].of(1000)) - 1000 < 20
