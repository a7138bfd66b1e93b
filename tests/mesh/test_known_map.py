"""When a map of known calls is looked at again."""

import pytest

from mesh.known_map import Pace


@pytest.mark.parametrize(("seconds", "first"), [(0.1, 0.5), (1.0, 1.0), (30.0, 30.0)])
def test_a_server_that_has_started_leaves_the_map_until_envoy_has_found_it(seconds: float, first: float) -> None:
    """Calls that are not on it would have nobody until then."""
    pace = Pace(seconds)
    pace.start(100.0)
    assert pace.wake_up == pytest.approx(100.0 + first)
    pace.looks(100.0 + first)
    assert pace.wake_up == pytest.approx(100.0 + first + seconds)
