"""Errors of the system in its words, whoever has wrapped them."""

import asyncio
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest

from mesh.system_words import safe_words, system_words


def test_a_file_is_not_named_twice() -> None:
    with pytest.raises(OSError) as failed:
        Path("/nowhere/file").read_text()
    assert system_words(failed.value) == "No such file or directory"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("http://localhost:9", "Connection refused"),
        ("http://no-such.invalid:9", {"Name or service not known", "Temporary failure in name resolution"}),
    ],
)
async def test_a_peer_that_is_away_is_told_without_the_librarys_trimmings(url: str, words: str | set[str]) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError) as failed:
            await session.get(url)
    told = system_words(failed.value)
    assert told == words or told in words


async def test_an_address_that_is_taken_is_told_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as failed:
        await asyncio.start_server(lambda *_: None, *taken.getsockname())
    assert system_words(failed.value) == "Address already in use"


@pytest.mark.parametrize("error", [ssl.SSLError(1, "WRONG_VERSION_NUMBER"), ValueError("no number"), OSError("odd")])
def test_what_the_system_has_no_words_for_keeps_its_own(error: Exception) -> None:
    assert (system_words(error), safe_words(error)) == (str(error), type(error).__name__)


def test_there_may_be_no_words() -> None:
    assert (system_words(TimeoutError()), safe_words(TimeoutError())) == ("", "TimeoutError")
