"""The parts of the hostile benchmark: its attacks are what they say, and its figures are medians."""

import os

import pytest

from ext_proc.contract import PROCESS_METHOD
from ext_proc.http2.server_connection import ServerConnection
from integration.bench.hostile.attacker import Sent
from integration.bench.hostile.attacks import ATTACKS
from integration.bench.hostile.benchmark import Outcome, Round
from integration.bench.hostile.probe import resident_mib
from tests.ext_proc.http2.peer import Book, feed


def played(name: str, chunks: int) -> tuple[Book, ServerConnection]:
    """What the core makes of the first chunks, on one connection."""
    book, attack = Book(), ATTACKS[name]
    connection = ServerConnection({PROCESS_METHOD: book.open}, lambda: None)
    feed(connection, attack.begin)
    for index in range(chunks):
        feed(connection, attack.chunk(index), index * attack.every)
        connection.take()
    return book, connection


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.of_server and not attack.anew])
def test_an_attack_is_hostile_and_not_broken(name: str, caplog: pytest.LogCaptureFixture) -> None:
    _, connection = played(name, 3)
    assert "failed" not in caplog.text
    if connection.ended:
        assert {getattr(record, "code", "") for record in caplog.records} == {"ENHANCE_YOUR_CALM"}


def test_no_two_calls_of_the_names_are_alike() -> None:
    book, _ = played("names", 3)
    messages = [entry[2] for entry in book.log if entry[1] == "message"]
    assert len(messages) == len(set(messages)) == 225


def test_the_backlog_is_all_calls_that_are_served() -> None:
    book, connection = played("backlog", 1)
    assert book.what().count("message") == 4_000
    assert not connection.ended


def test_figures_are_medians_of_rounds_and_the_worst_of_memory() -> None:
    rounds = [Round(10.0, beside, pause, peak, Sent()) for beside, pause, peak in ((20, 3, 1), (90, 1, 7), (30, 2, 2))]
    outcome = Outcome(rounds, 0.5)
    assert (outcome.beside, outcome.without, outcome.ratio) == (30, 10, 3)
    assert (outcome.pause, outcome.peak) == (2, 7)


def test_memory_is_of_the_process() -> None:
    before = resident_mib(os.getpid())
    more = bytearray(os.urandom(1 << 20) * 32)
    assert 20 < resident_mib(os.getpid()) - before < 100
    assert more
