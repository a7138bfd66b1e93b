"""Known calls at a node: its Envoy carries the calls of models that are there, and tells of them when they have ended.

No model is unloaded under such a call: see `let_go`, and docs/known-calls.md.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ext_proc.access_log.entries import EndedCall
from ext_proc.contract import MODEL_HEADER, NODE_LISTENER
from ext_proc.known.departures import SETTLES, Departures
from ext_proc.known.keeper import MapKeeper
from ext_proc.node.resident_models import ResidentModels
from ext_proc.wake_up import WakeUp
from ext_proc.wire.call import Call
from mesh.known_map import PARTS, KnownModel
from mesh.model_cache.carried import CarriedCalls
from mesh.model_cache.manager import Manager
from mesh.routing.settings import KnownSettings

logger = logging.getLogger(__name__)

UNTOLD_SECONDS = 30.0
"""The longest wait for an Envoy that does not tell what it goes by."""


class KnownCalls:
    """The map of a node: see `ext_proc.known.keeper.Listener` and `ext_proc.access_log.service.Accounts`.

    `rest` and `grpc` are the model server's addresses, `gathers` says whose calls are gathered into batches. `clock` in
    seconds, monotonic.
    """

    def __init__(
        self,
        settings: KnownSettings,
        file: Path,
        envoy_admin: str,
        *,
        rest: str,
        grpc: str,
        gathers: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._gathers = gathers
        self._departures = Departures()
        self._models = ResidentModels(settings, self._may_pass, {"rest": _all_to(rest), "grpc": _all_to(grpc)})
        self.keeper = MapKeeper(
            self._models,
            file,
            envoy_admin,
            settings.models,
            clock,
            named=MODEL_HEADER,
            listener=self,
            counted=NODE_LISTENER,
        )
        self._cache: CarriedCalls | None = None
        self._timer = WakeUp(self._expire, clock)
        self._logs = 0
        self.leaving = False
        """The process is about to end: Envoy's log will find nobody who reads it."""
        self.untold = 0
        """Models that were unloaded though Envoy did not tell whether it knew them still."""

    @asynccontextmanager
    async def running(self, manager: Manager) -> AsyncIterator[None]:
        """The map says what this cache has, for the length of the block, and is left in its place."""
        self._cache = manager.carried_calls(SETTLES, self._changed)
        try:
            async with self.keeper.running():
                yield
        finally:
            self._timer.close()

    async def let_go(self, model: str) -> None:
        """Returns once Envoy sends no call for the model by itself any more, and those that run hold a lease.

        The model is not to be in the next map. An Envoy that does not tell what it goes by, and is not known to be gone
        either, is waited for only so long.
        """
        until, give_up = self._departures.settled_at(model), self._clock() + UNTOLD_SECONDS
        if until <= self._clock():
            return
        with self.keeper.pressed():
            while (until := self._departures.settled_at(model)) > (now := self._clock()):
                if now >= give_up and until == math.inf:
                    self.untold += 1
                    cause = self.keeper.away or "It does not go by the map that was written last."
                    logger.warning("Envoy may know an unloaded model", extra={"model": model, "cause": cause})
                    return
                await self.keeper.news(min(until, give_up if now < give_up else math.inf, now + 1.0) - now)

    def went_well(self, model: str, form: int, now: float) -> None:
        """A call in that form has ended well that the server was asked about."""
        self._models.called(model, form, now)

    def writes(self, number: int, models: Sequence[KnownModel]) -> None:
        """See `Listener.writes`."""
        self._departures.writes(number, [model.name for model in models])

    def told(self, number: int, active: int | None) -> None:
        """See `Listener.told`."""
        self._departures.goes_by(number, active == 0, self._clock())
        self._models.is_open = True

    def away(self, refused: bool) -> None:
        """See `Listener.away`. Who does not hear what Envoy goes by does not send it calls."""
        written = self.keeper.written
        if refused and not self._logs and written is not None:
            # An Envoy that starts opens its admin interface first, and reads the file then.
            self._departures.is_gone(written.number, self._clock())
        self._close()

    def has_none(self, number: int) -> None:
        """See `Listener.has_none`. Such an Envoy asks about every call, as ever."""
        if number:
            self._departures.is_gone(number, self._clock())
        self._close()

    def _close(self) -> None:
        if self._models.is_open:
            self._models.is_open = False
            self.keeper.lost("")

    def logs(self, count: int, now: float) -> None:
        """See `Accounts.logs`. Envoy opens a log when it has something to tell."""
        before, self._logs = self._logs, count
        if count < before:
            self._departures.missed(now)
        if self.leaving and not count:
            self._departures.hears_no_more(now)

    def ended(self, calls: Iterable[EndedCall], now: float) -> None:
        """See `Accounts.ended`."""
        told: dict[str, tuple[int, bool, bool]] = {}  # how many have ended, whether often, whether one lacked its model
        for call in calls:
            if call.known and call.call is not None:
                ended, often, lacking = told.get(call.call.model, (0, False, False))
                often, lacking = often or call.stands_for > 1, lacking or call.lacking
                told[call.call.model] = ended + call.stands_for, often, lacking
        for model, (ended, often, lacking) in told.items():
            self._carried.ended(model, now, often)
            self._models.carried(model, now, ended)
            if lacking:
                self._carried.lacking()
                self._models.failed(model, now)
                self.keeper.lost(model)

    def running_calls(self, calls: Iterable[Call], now: float) -> None:
        """See `Accounts.running_calls`."""
        for model in {call.model for call in calls}:
            self._carried.runs(model, now)
            self._models.carried(model, now)
        self._expire()

    def _expire(self) -> None:
        self._timer.at(self._carried.expire(self._clock()))

    @property
    def _carried(self) -> CarriedCalls:
        if self._cache is None:
            raise RuntimeError("the map of known calls is not kept")
        return self._cache

    def _may_pass(self, model: str) -> bool:
        return self._carried.may_come(model) and not self._gathers(model)

    def _changed(self, model: str) -> None:
        if not (self._may_pass(model) if model else self._carried.any_may_come):
            self.keeper.lost(model)


def _all_to(address: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    return ((PARTS, (address,)),)
