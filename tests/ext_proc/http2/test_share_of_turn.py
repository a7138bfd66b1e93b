"""What one connection may do before the others have their turn."""

import asyncio
from typing import Any

import hpack

from ext_proc.http2.aio.turns import Turns
from ext_proc.http2.frames import DATA, END_HEADERS, HEADERS, PING, WINDOW_UPDATE, Setting, frame, settings_frame
from ext_proc.http2.limits import FRAME_COST, Limits
from integration import virtual_time
from tests.ext_proc.http2.peer import Book, feed, frames_of, message, raw
from tests.ext_proc.http2.test_hostile import BLOCK

LIMITS = Limits(turn=8 * FRAME_COST)


def calls(first: int, count: int) -> bytes:
    return b"".join(
        frame(HEADERS, END_HEADERS, number, BLOCK) + frame(DATA, 0, number, message(b"x"))
        for number in range(first, first + 2 * count, 2)
    )


def test_what_is_over_the_share_waits_for_the_next_turn_and_nothing_is_lost() -> None:
    book = Book()
    connection = raw(book.open, LIMITS)
    connection.receive(calls(1, 20)[:-1], 0.0)
    assert connection.behind
    assert 1 <= len(book.sessions) <= 4
    connection.receive(calls(1, 20)[-1:] + calls(41, 5), 0.0)
    assert len(book.sessions) <= 4, "what comes meanwhile only waits"
    turns = 0
    while connection.behind:
        before = len(book.sessions)
        connection.go_on(0.0)
        assert len(book.sessions) - before <= 4
        turns += 1
    assert turns >= 6
    assert book.what().count("message") == 25


def test_usual_traffic_is_never_behind() -> None:
    connection = raw(Book().open)
    connection.receive(calls(1, 25), 0.0)
    assert not connection.behind


def test_bytes_count_as_well_as_frames() -> None:
    book = Book()
    connection = raw(book.open)
    body = b"".join(frame(DATA, 0, 1, bytes(16_000)) for _ in range(10))
    assert feed(connection, frame(HEADERS, END_HEADERS, 1, BLOCK) + body) >= 3


def test_a_header_block_that_is_dear_to_read_ends_the_turn() -> None:
    connection = raw(Book().open)
    dear = hpack.Encoder().encode([("a", "x" * 60_000)], huffman=False)
    pings = frame(PING, 0, 0, bytes(8))
    assert feed(connection, pings * 3) == 1
    assert feed(connection, frame(HEADERS, END_HEADERS, 1, dear) + pings) == 2


def test_a_change_of_all_windows_counts_by_the_streams() -> None:
    connection = raw(Book().open, LIMITS)
    feed(connection, b"".join(frame(HEADERS, END_HEADERS, number, BLOCK) for number in range(1, 10_001, 2)))
    change = settings_frame({Setting.INITIAL_WINDOW_SIZE: 100})
    assert feed(connection, change + frame(PING, 0, 0, bytes(8))) == 2


def test_an_ended_connection_is_not_behind() -> None:
    connection = raw(Book().open, LIMITS)
    connection.receive(calls(1, 20), 0.0)
    connection.lost()
    while connection.behind:
        connection.go_on(0.0)
    assert not connection.streams
    connection = raw(Book().open, LIMITS)
    connection.receive(frame(WINDOW_UPDATE, 0, 0, bytes(4)) + calls(1, 20), 0.0)
    assert (connection.ended, connection.behind) == (True, False)


def test_many_streams_of_a_connection_that_is_lost_are_told_in_turns_and_each_once() -> None:
    book = Book()
    connection = raw(book.open, LIMITS)
    feed(connection, calls(1, 30))
    connection.lost()
    assert (connection.ended, connection.behind, connection.streams) == (True, True, 0)
    assert book.what().count("gone") == 8
    connection.lost()
    assert book.what().count("gone") == 16
    while connection.behind:
        connection.go_on(0.0)
    assert book.what().count("gone") == 30


def test_those_that_are_behind_take_turns_one_in_each_turn_of_the_loop() -> None:
    order: list[Any] = []

    def one(name: str, times: int) -> Any:
        def go_on() -> bool:
            nonlocal times
            times -= 1
            order.append(name)
            return times > 0

        return go_on

    async def case() -> None:
        loop, turns = asyncio.get_running_loop(), Turns()
        assert isinstance(loop, virtual_time.VirtualLoop)

        def tick(left: int) -> None:
            order.append("|")
            if left:
                loop.call_soon(tick, left - 1)

        turns.wait(one("a", 3))
        turns.wait(one("b", 1))
        loop.call_soon(tick, 5)
        for _ in range(10):
            await asyncio.sleep(0)
        turns.wait(one("c", 1))
        await asyncio.sleep(1)

    virtual_time.run(case())
    assert "".join(order) == "a|b|a|a|||c"


async def test_one_that_fails_does_not_end_the_line() -> None:
    turns, told = Turns(), []
    loop = asyncio.get_running_loop()
    failures: list[Any] = []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fails() -> bool:
        raise RuntimeError("broken")

    turns.wait(fails)
    turns.wait(lambda: bool(told.append("next")))
    for _ in range(3):
        await asyncio.sleep(0)
    assert (told, len(failures)) == (["next"], 1)


def test_a_reply_is_not_late_for_the_share() -> None:
    """What one turn has caused goes out in it."""
    connection = raw(Book().open, LIMITS)
    connection.receive(frame(PING, 0, 0, bytes(8)) * 20, 0.0)
    assert connection.behind
    assert {kind for kind, *_ in frames_of(connection.take())} == {PING}
