"""The connections of one owner: they share out its turns of the loop, and each is watched."""

import asyncio
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from ext_proc.http2.aio.protocol import Http2Protocol
from ext_proc.http2.aio.turns import Turns
from ext_proc.http2.connection import H2Connection
from ext_proc.http2.vigil import LOOK_SECONDS

ConnectionT = TypeVar("ConnectionT", bound=H2Connection[Any])


class Connections(Generic[ConnectionT]):
    """A set of connections, with one timer for all of them while there are any."""

    def __init__(self) -> None:
        self.turns = Turns()
        self._protocols: set[Http2Protocol[ConnectionT]] = set()
        self._look: asyncio.TimerHandle | None = None

    def add(self, protocol: Http2Protocol[ConnectionT]) -> None:
        """One more, which is watched from now on."""
        self._protocols.add(protocol)
        if self._look is None:
            self._watch()

    def discard(self, protocol: Http2Protocol[ConnectionT]) -> None:
        """One less, if it was one of them."""
        self._protocols.discard(protocol)
        if not self._protocols and self._look is not None:
            self._look.cancel()
            self._look = None

    def all(self) -> tuple[Http2Protocol[ConnectionT], ...]:
        """Those of this moment: what is done to one may end it, and others."""
        return tuple(self._protocols)

    def __iter__(self) -> Iterator[Http2Protocol[ConnectionT]]:
        return iter(self._protocols)

    def __contains__(self, protocol: object) -> bool:
        return protocol in self._protocols

    def __len__(self) -> int:
        return len(self._protocols)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_SECONDS, self._watch)
        now = loop.time()
        for protocol in self.all():
            protocol.connection.watch(now)
