"""The soak's own judgement: what grows, and what counts as wrong."""

import os
from collections.abc import Mapping
from random import Random
from typing import Any, cast

import pytest

from integration.soak import calls
from integration.soak.calls import Tally, call_on
from integration.soak.growth import Growth


def test_a_process_is_looked_at_anew_after_its_restart() -> None:
    growth = Growth()
    growth.sample(os.getpid())
    assert growth.mib[0] > 1
    assert growth.open_files[0] >= 3
    growth.sample(os.getppid())
    assert len(growth.memory) <= 1
    growth.sample(2**22 + 1)  # no process has this number
    assert growth.mib == (0.0, 0.0)


@pytest.mark.parametrize(
    ("samples", "seen"),
    [([50.0] + [100.0] * 40, (100.0, 100.0)), (list(range(101)), (38.5, 92.5)), ([7.0], (7.0, 7.0))],
)
def test_growth_is_what_comes_after_a_process_has_settled(samples: list[float], seen: tuple[float, float]) -> None:
    early, late = Growth(memory=list(samples)).mib
    assert (early, late) == pytest.approx(seen, abs=1)


class Stop(Exception):
    pass


class Replies:
    """A place that answers each call with the next of a list."""

    def __init__(self, *replies: tuple[int | str, bytes, str]) -> None:
        self._replies = list(replies)

    async def rest(self, model: str, headers: Mapping[str, str]) -> tuple[int | str, bytes, str]:
        if not self._replies:
            raise Stop
        return self._replies.pop(0)

    grpc = rest


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ((200, b"right", ""), "answered"),
        ((200, b"right", "a-svm;rank=0;elapsed=3"), "answered"),
        ((200, b"other", ""), "wrong"),
        ((200, b"central", "a-centroid;rank=1"), "answered"),
        ((200, b"central", ""), "wrong"),
        ((200, b"right", "b-svm;rank=0"), "wrong"),
        ((503, b"busy", ""), "refused 503"),
        (("UNAVAILABLE", b"busy", ""), "refused UNAVAILABLE"),
        ((500, b"oops", ""), "wrong"),
        (("ServerDisconnectedError", b"", ""), "wrong"),
    ],
)
async def test_what_counts_as_wrong(
    reply: tuple[int | str, bytes, str], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_PAUSE", 0.0)
    right = {(protocol, "a-svm"): b"right" for protocol in ("rest", "grpc")}
    right |= {(protocol, "a-centroid"): b"central" for protocol in ("rest", "grpc")}
    tally = Tally()
    with pytest.raises(Stop):
        await call_on(cast(Any, Replies(reply)), ["a-svm"], right, tally, Random(1))
    (seen,) = tally.outcomes
    assert ("answered" if seen in ("plain", "raced") else seen) == outcome
    assert bool(tally.wrong) is (outcome == "wrong")
