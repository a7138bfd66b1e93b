"""The table of sessions, in time that is an argument: who is found, who is forgotten, and how each is counted."""

from dataclasses import asdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mesh.routing.sessions import Sessions

IDLE = 60.0


def table(most: int = 3) -> Sessions[str]:
    return Sessions(most, IDLE)


def test_a_session_is_found_until_it_ends() -> None:
    sessions = table()
    assert sessions.find(b"a", 0.0) is None
    sessions.open(b"a", "node-1", "m", 0.0)
    for now in (1.0, 2.0, 50.0, 100.0, 150.0):
        sitting = sessions.find(b"a", now)
        assert sitting is not None
        assert (sitting.node_id, sitting.target) == ("node-1", "m")
    sessions.end(b"a")
    sessions.end(b"a")
    assert sessions.find(b"a", 151.0) is None
    assert asdict(sessions.counts) == {"opened": 1, "ended": 1, "idle": 0, "lost": 0, "pushed_out": 0}


def test_the_time_of_a_session_begins_anew_with_each_call() -> None:
    sessions = table()
    sessions.open(b"a", "node-1", "m", 0.0)
    assert sessions.find(b"a", IDLE - 0.1)
    assert sessions.find(b"a", 2 * IDLE - 0.2)
    assert sessions.find(b"a", 3 * IDLE - 0.2) is None
    assert sessions.counts.idle == 1


def test_of_a_full_table_the_one_without_a_call_for_longest_goes() -> None:
    sessions = table(most=2)
    sessions.open(b"a", "node-1", "m", 0.0)
    sessions.open(b"b", "node-1", "m", 1.0)
    assert sessions.find(b"a", 2.0)
    sessions.open(b"c", "node-1", "m", 3.0)
    assert sessions.find(b"b", 4.0) is None
    assert sessions.find(b"a", 4.0)
    assert sessions.counts.pushed_out == 1


def test_idle_ones_are_cleared_away_in_steps() -> None:
    sessions = table(most=1000)
    for number in range(1000):
        sessions.open(number.to_bytes(2), "node-1", "m", 0.0)
    assert sessions.find(b"other", IDLE) is None
    assert 0 < len(sessions) < 1000
    sessions.expire(IDLE, 1000)
    assert len(sessions) == 0
    assert sessions.counts.idle == 1000


def test_one_that_is_idle_is_not_found_before_it_is_cleared_away() -> None:
    sessions = table(most=1000)
    for number in range(200):
        sessions.open(number.to_bytes(2), "node-1", "m", 0.0)
    assert sessions.find((199).to_bytes(2), IDLE) is None


KEYS = st.sampled_from([bytes([number]) for number in range(6)])


class Model(RuleBasedStateMachine):
    """The table beside a plain dictionary of the times of last calls."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = table(most=4)
        self.calls: dict[bytes, float] = {}
        self.now = 0.0

    @rule(seconds=st.floats(0, 2 * IDLE))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS)
    def call(self, key: bytes) -> None:
        live = key in self.calls and self.now - self.calls[key] < IDLE
        assert (self.sessions.find(key, self.now) is not None) is live
        self.calls = {each: at for each, at in self.calls.items() if self.now - at < IDLE}
        if not live:
            if len(self.calls) == 4:
                del self.calls[next(iter(self.calls))]
            self.sessions.open(key, "node", "m", self.now)
        self.calls.pop(key, None)  # the dictionary is in the order of the last calls
        self.calls[key] = self.now

    @rule(key=KEYS, lost=st.booleans())
    def end(self, key: bytes, lost: bool) -> None:
        (self.sessions.lose if lost else self.sessions.end)(key)
        self.calls.pop(key, None)

    @invariant()
    def every_session_is_counted_once(self) -> None:
        counts = self.sessions.counts
        closed = counts.ended + counts.idle + counts.lost + counts.pushed_out
        assert counts.opened == closed + len(self.sessions)
        assert len(self.sessions) <= 4


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
