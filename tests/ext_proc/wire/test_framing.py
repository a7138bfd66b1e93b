"""gRPC's framing: what unpacking costs, and what it is bounded by."""

import random
import zlib
from typing import Any

import pytest

from ext_proc.errors import CallError, Reason
from ext_proc.wire import framing
from ext_proc.wire.framing import frame, inflate, most_plain, unframe

MIB = 1 << 20
NOISE = random.Random(1).randbytes(MIB)


def packed(message: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    content = packer.compress(message) + packer.flush()
    return b"\1" + len(content).to_bytes(4, "big") + content


class CountingZlib:
    """zlib, which counts the bytes that go in and those that it gives back to be fed again."""

    def __init__(self) -> None:
        self.copied = 0

    def decompressobj(self, wbits: int) -> "CountingZlib":
        self._real = zlib.decompressobj(wbits)
        return self

    def decompress(self, data: bytes, most: int) -> bytes:
        piece = self._real.decompress(data, most)
        self.copied += len(self._real.unconsumed_tail)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(zlib if name == "error" else self._real, name)


@pytest.mark.parametrize("message", [NOISE, bytes(8 * MIB), NOISE[:4000] * 500])
def test_unpacking_costs_what_is_packed_and_what_is_plain_and_not_their_product(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = CountingZlib()
    monkeypatch.setattr(framing, "zlib", counting)
    body = packed(message)
    assert unframe((body,), "gzip", 8 * MIB) == message
    assert counting.copied < len(body) + len(message)


@pytest.mark.parametrize("pack", [frame, packed])
@pytest.mark.parametrize("size", [1, 3, 5, 6, 1000, 3 * MIB])
def test_a_body_in_chunks_is_the_same_message(pack: Any, size: int) -> None:
    message = NOISE[:3000] if size < 1000 else NOISE + NOISE
    body = pack(message)
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert unframe(chunks, "gzip", 3 * MIB) == message
    assert most_plain(chunks, 3 * MIB) >= len(message)


def test_nothing_unpacks_to_more_than_its_bound_says() -> None:
    bomb = packed(bytes(64 * MIB))
    assert 64 * MIB <= most_plain((bomb,), 1 << 40) < 80 * MIB
    assert most_plain((bomb,), MIB) == MIB
    assert most_plain((), MIB) == 0


def test_what_is_over_the_limit_is_refused() -> None:
    for body in (frame(bytes(1001)), packed(bytes(1001))):
        with pytest.raises(CallError) as caught:
            unframe((body,), "gzip", 1000)
        assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(CallError):
        inflate(packed(bytes(1001))[5:], "gzip", 1000)
