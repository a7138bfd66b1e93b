"""A connection never comes to where an Envoy would close it, whatever ends how and in which order."""

from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2.reset_tally import ENVOY_STREAMS, ResetTally
from tests.ext_proc.http2.service import OK, Service


class Envoy:
    """Its rule, written down from its behaviour: counted when a stream ends."""

    def __init__(self) -> None:
        self.ended = self.reset = 0
        self.closes = False

    def ends(self, reset: bool) -> None:
        self.ended += 1
        self.reset += reset
        self.closes = self.closes or 2 * self.reset >= max(ENVOY_STREAMS, self.ended)


def test_a_connection_of_resets_only_is_worn_before_envoy_closes_it() -> None:
    tally, envoy, carried = ResetTally(), Envoy(), 0
    while not tally.is_worn:
        tally.ended(reset=True)
        envoy.ends(reset=True)
        carried += 1
    assert not envoy.closes
    assert carried == 200


def test_one_without_resets_is_never_worn_and_takes_ever_more_at_once() -> None:
    tally = ResetTally()
    assert tally.takes_one_more(ENVOY_STREAMS // 2 - 2)
    assert not tally.takes_one_more(ENVOY_STREAMS // 2 - 1)
    for _ in range(10_000):
        tally.ended(reset=False)
    assert tally.takes_one_more(9_000)
    assert not tally.is_worn


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=40))
def test_no_order_of_requests_and_ends_makes_envoy_close(steps: list[tuple[int, float]]) -> None:
    """Each step opens as many as it may, up to a number, and ends a share of those that are open, all by resets or not.

    Those that are open at the end are reset, too.
    """
    tally, envoy, open_streams = ResetTally(), Envoy(), 0
    for wanted, share in steps:
        for _ in range(wanted):
            if tally.takes_one_more(open_streams):
                open_streams += 1
        ends = round(open_streams * share)
        reset = wanted % 2 == 0
        for _ in range(ends):
            tally.ended(reset)
            envoy.ends(reset)
        open_streams -= ends
    for _ in range(open_streams):
        envoy.ends(reset=True)
    assert not envoy.closes


def test_a_worn_connection_ends_with_its_last_stream() -> None:
    service = Service()
    connection = service.connection
    kept = service.ask(b"x")
    while connection.has_room:
        service.ask(b"x").give_up()
        service.exchange()
    assert (connection.streams, connection.is_open, connection.ended) == (1, True, False)
    service.reply(kept.id, OK, b"answer")
    assert connection.ended


def test_one_that_is_not_worn_stays() -> None:
    service = Service()
    for _ in range(300):
        exchange = service.ask(b"x")
        service.exchange()
        service.reply(exchange.id, OK, b"answer")
    assert service.connection.has_room
    assert not service.connection.ended
