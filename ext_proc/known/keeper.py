"""The keeper of the map: writes what is known into its file, and sees whether Envoy takes it."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ext_proc.contract import NAMED_HEADER
from ext_proc.known.envoy_stats import EnvoyAway, NoFilter, Taken, ask_envoy
from ext_proc.known.file import make_if_absent
from ext_proc.known.map_file import MapWriter
from ext_proc.wake_up import WakeUp
from ext_proc.whole_file import replace_file
from mesh.known_map import KnownModel

logger = logging.getLogger(__name__)

_CHUNK = 50
_FILES_KEPT_IN_MIND = 8
_FIRST_PAUSE, _REST = 0.025, 5.0
"""Seconds between two questions to Envoy: after a file, and when nothing is to be learnt; in between more and more."""
_PRESSED = 0.05
"""And the most where somebody waits for the answer."""


class Table(Protocol):
    """What is known: pure, with times of one monotonic clock; `mesh.routing.known`, `ext_proc.node.resident_models`."""

    models: tuple[KnownModel, ...]
    """As the last look has found them."""
    version: int
    """Moves when they become others; 0 before the first look."""

    @property
    def wake_up(self) -> float:
        """When `look` is to be called next."""

    def start(self, now: float) -> None:
        """The first look is some time from now."""

    def look(self, now: float) -> Iterator[None]:
        """Works the table out anew, by steps."""

    def lost(self, model: str, now: float) -> None:
        """Calls of that model, or (empty) of some, are not to be sent by the map any more: `wake_up` is soon."""


class Listener(Protocol):
    """Who wants to know what Envoy goes by. Maps are numbered in the order in which they were written, from 1 on."""

    def writes(self, number: int, models: Sequence[KnownModel]) -> None:
        """From this moment on Envoy may take this map in."""

    def told(self, number: int, active: int | None) -> None:
        """All of Envoy's workers go by the map of that number: 0 for one of somebody else.

        `active` as in `Taken`.
        """

    def away(self, refused: bool) -> None:
        """Envoy cannot be asked; `refused` as in `EnvoyAway`."""

    def has_none(self, number: int) -> None:
        """Envoy has no filter that reads a map. If it gets one, that begins with the map of that number, or a later
        one; 0: with one of somebody else.
        """


@dataclass(slots=True)
class Written:
    """What the file says, and since when (seconds of the keeper's clock). Maps are numbered as `Listener` has it."""

    number: int
    version: str
    models: int
    bytes: int
    at: float


AnyTable = TypeVar("AnyTable", bound=Table)


class MapKeeper(Generic[AnyTable]):
    """Keeps the file at `path` true to `known` while `running`. `clock` in seconds, monotonic.

    `envoy_admin` is where Envoy's admin interface listens (`ip:port` or `unix:/path`), `named` the header of gRPC calls
    that names their model. With a `listener` calls at the Envoy listener `counted` are asked for, too.
    """

    def __init__(
        self,
        known: AnyTable,
        path: Path,
        envoy_admin: str,
        most_models: int,
        clock: Callable[[], float],
        *,
        named: str = NAMED_HEADER,
        listener: Listener | None = None,
        counted: str | None = None,
    ) -> None:
        self.known = known
        self.path = path
        self._admin = envoy_admin
        self._clock = clock
        self._listener = listener
        self._counted = counted
        self._writer = MapWriter(most_models, named)
        self._token = secrets.token_hex(4)
        self._due, self._to_follow = asyncio.Event(), asyncio.Event()
        self._news = asyncio.Event()
        self._pressing = 0
        self._timer = WakeUp(self._due.set, clock)
        self._last: Taken | None = None
        self._lately: dict[str, Written] = {}
        self.in_force_since: float | None = None
        """When Envoy was first seen to have what it has now (seconds of the clock)."""
        self.written: Written | None = None
        """None before the first table."""
        self.writes = 0
        self.failures = 0
        """Files that could not be written."""
        self.refused = 0
        """Files that Envoy has refused."""
        self.away: str | None = None
        """Why Envoy did not tell what it has the last time."""
        self.unread = False
        """Whether that was because it has no filter that reads the map."""

    @property
    def taken(self) -> bool | None:
        """Whether Envoy has in force what the file says; None where it cannot be asked."""
        if self.away is not None or self._last is None or self.written is None:
            return None
        return self._last.version == self.written.version and self._last.everywhere

    @property
    def envoys_version(self) -> str | None:
        """The version that Envoy has in force, as it told last."""
        return None if self._last is None else self._last.version

    @property
    def in_force(self) -> Written | None:
        """The file that Envoy has in force; None where it has not told, or has one that is not of this process."""
        return None if self._last is None else self._lately.get(self._last.version)

    def lost(self, model: str) -> None:
        """A holder of the model goes, or (empty) a node: calls are not to go there any more."""
        self.known.lost(model, self._clock())
        self._timer.at(self.known.wake_up)

    @contextmanager
    def pressed(self) -> Iterator[None]:
        """For the length of the block somebody waits for what Envoy says: it is asked again and again."""
        self._pressing += 1
        self._to_follow.set()
        try:
            yield
        finally:
            self._pressing -= 1

    async def news(self, seconds: float) -> None:
        """Returns once Envoy was asked again, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The map is kept for the length of the block, and left in its place: Envoy goes on without the server."""
        await asyncio.to_thread(self._make)
        async with asyncio.TaskGroup() as tasks:
            doing = [tasks.create_task(self._keep()), tasks.create_task(self._follow())]
            try:
                yield
            finally:
                self._timer.at(None)
                for task in doing:
                    task.cancel()

    def _make(self) -> None:
        try:
            make_if_absent(self.path)
        except OSError as error:
            self._failed(error)

    async def _keep(self) -> None:
        known, version = self.known, 0
        await self._ask()
        known.start(self._clock())
        while True:
            self._timer.at(known.wake_up)
            await self._due.wait()
            self._due.clear()
            for _ in known.look(self._clock()):
                await asyncio.sleep(0)
            if known.version == version:
                continue
            # In the step of the look, before anything else can happen to a model.
            self.writes += 1
            if self._listener is not None:
                self._listener.writes(self.writes, known.models)
            table = known.version
            if await self._write(self.writes, known.models):
                version = table

    async def _write(self, number: int, models: Sequence[KnownModel]) -> bool:
        for start in range(0, len(models), _CHUNK):
            self._writer.prepare(models[start : start + _CHUNK])
            await asyncio.sleep(0)
        version = f"{self._token}.{number}"
        content = self._writer.write(models, version)
        try:
            await asyncio.to_thread(replace_file, self.path, content)
        except OSError as error:
            self._failed(error)
            return False
        self.written = self._lately[version] = Written(number, version, len(models), len(content), self._clock())
        if len(self._lately) > _FILES_KEPT_IN_MIND:
            del self._lately[next(iter(self._lately))]
        self._to_follow.set()
        return True

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        logger.error("the map of known calls cannot be written", extra={"file": str(self.path), "cause": str(error)})

    async def _follow(self) -> None:
        """Asks Envoy what it has: often after each file until it has taken or refused it, and now and then."""
        pause = _FIRST_PAUSE
        while True:
            pause = _REST if await self._is_settled() else min(2 * pause, _REST)
            if self._pressing:
                pause = min(pause, _PRESSED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._to_follow.wait()
                self._to_follow.clear()
                pause = _FIRST_PAUSE

    async def _is_settled(self) -> bool:
        before = self._last
        await self._ask()
        if before is None or self._last is None or self._last.refused <= before.refused:
            return self.taken is True
        self.refused += 1
        logger.error(
            "Envoy has refused the map of known calls, and keeps the one before",
            extra={
                "file": str(self.path),
                "envoys_version": self._last.version,
                "cause": "Envoy's log tells it, after 'Filesystem config update rejected'",
            },
        )
        return True

    async def _ask(self) -> None:
        refused, before = False, self._last
        number = 0 if self.written is None else self.written.number  # what lies there when Envoy is asked
        try:
            self._last, self.away, self.unread = await ask_envoy(self._admin, self._counted), None, False
            if before is None or self._last.version != before.version:
                self.in_force_since = self._clock()
        except EnvoyAway as error:
            self.away, refused, self.unread = str(error), error.refused, isinstance(error, NoFilter)
        if self._listener is not None:
            if self.unread:
                self._listener.has_none(number)
            elif self.away is not None:
                self._listener.away(refused)
            elif self._last is not None and self._last.everywhere:
                self._listener.told(self._number(self._last.version), self._last.active)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _number(self, version: str) -> int:
        token, _, number = version.partition(".")
        return int(number) if token == self._token else 0
