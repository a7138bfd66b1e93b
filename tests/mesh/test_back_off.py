from itertools import islice

import pytest

from mesh.back_off import RetryDelays


def test_delays_are_doubled_up_to_the_longest() -> None:
    assert list(islice(RetryDelays(0.5, 3.0), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_they_begin_anew_after_a_success_and_a_peer_without_hurry_waits_longest() -> None:
    delays = RetryDelays(0.5, 4.0)
    assert [next(delays), next(delays)] == [0.5, 1.0]
    delays.reset()
    assert next(delays) == 0.5
    delays.hold_off()
    assert [next(delays), next(delays)] == [4.0, 4.0]


@pytest.mark.parametrize(("chance", "share"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_chance_puts_each_delay_around_its_length_and_does_not_add_up(chance: float, share: float) -> None:
    delays = RetryDelays(1.0, 4.0, lambda: chance)
    assert list(islice(delays, 4)) == [share, 2 * share, 4 * share, 4 * share]
