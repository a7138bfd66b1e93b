"""What a node's Envoy may know: the models that calls may use without a question, and that are in use.

A model comes in with the second of two calls that went well, and goes when it may not be used so any more, when its
calls fail, or when nobody has called it for a while: so what is evicted has left the map long before, as a rule.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mesh.bounded import Memo
from mesh.known_map import KnownModel, Pace, Shares, is_sampled
from mesh.node import ProtocolKind
from mesh.routing.demand import Demand
from mesh.routing.settings import KnownSettings

IDLE_SECONDS = 10.0
"""Without a call for so long a model leaves; it comes in where two calls are no further apart."""
_FIRST_BAN, _LONGEST_BAN = 1.0, 64.0
"""Seconds for which a model stays out whose call has failed; twice as long each time, if it was not out for longer."""
_CHUNK = 200
"""Models that one step goes over."""


@dataclass(slots=True)
class _Calls:
    """Of one model: in which forms they came, when the last two did, and until when it stays out, for how long."""

    forms: int
    last: float
    before: float
    out_until: float = 0.0
    ban: float = 0.0


class ResidentModels:
    """See `ext_proc.known.keeper.Table`.

    `may_pass` says of a model whether a call for it that names no version may use it now without a question. Calls go
    to `shares`, the model server.
    """

    def __init__(
        self, settings: KnownSettings, may_pass: Callable[[str], bool], shares: Mapping[ProtocolKind, Shares]
    ) -> None:
        self._settings = settings
        self._may_pass = may_pass
        self._shares = shares
        self._calls: Memo[_Calls] = Memo(settings.models)
        self._demand = Demand(IDLE_SECONDS, settings.models)
        self._table: dict[str, KnownModel] = {}
        self._looking = False
        self._pace = Pace(settings.seconds)
        self.is_open = False
        """Whether Envoy may know anything: not where nobody hears what becomes of it."""
        self.models: tuple[KnownModel, ...] = ()
        self.version = 0

    @property
    def wake_up(self) -> float:
        """See `Table.wake_up`."""
        return self._pace.wake_up

    def __contains__(self, model: str) -> bool:
        return model in self._table

    def called(self, model: str, form: int, now: float) -> None:
        """A call in that form has gone well that the server was asked about."""
        self._demand.called(model, now)
        calls = self._calls.get(model)
        if calls is None:
            self._calls.put(model, _Calls(form, now, -math.inf))
            return
        calls.forms |= form
        calls.before, calls.last = calls.last, now

    def carried(self, model: str, now: float, ended: int = 0) -> None:
        """Envoy has told of calls that it has sent by itself: so many have ended, or some are found to run."""
        calls = self._calls.get(model)
        if calls is not None and model in self._table:
            self._demand.called(model, now, ended)
            calls.before, calls.last = calls.last, now

    def failed(self, model: str, now: float) -> None:
        """A call has ended as one does where the model is not there: they are asked about for a while, and until two
        have gone well.
        """
        calls = self._calls.get(model)
        if calls is None or now < calls.out_until:
            return
        long_ago = now > calls.out_until + _LONGEST_BAN
        calls.ban = _FIRST_BAN if long_ago or not calls.ban else min(2 * calls.ban, _LONGEST_BAN)
        calls.out_until = now + calls.ban
        calls.last = calls.before = -math.inf
        self.lost(model, now)

    def start(self, now: float) -> None:
        """See `Table.start`."""
        self._pace.start(now)

    def lost(self, model: str, now: float) -> None:
        """See `Table.lost`."""
        if model in self._table or self._looking or not model:
            self._pace.hurry(now)

    def look(self, now: float) -> Iterator[None]:
        """See `Table.look`."""
        self._pace.looks(now)
        self._looking = True
        fresh: dict[str, KnownModel] = {}
        for number, name in enumerate(list(self._calls) if self.is_open else (), start=1):
            calls = self._calls.get(name)
            if calls is not None and self._belongs(name, calls, now):
                fresh[name] = self._known(name, calls, now)
            if number % _CHUNK == 0:
                yield
        if len(fresh) > self._settings.models:
            latest = heapq.nlargest(self._settings.models, fresh, key=self._worth)
            fresh = {name: fresh[name] for name in latest}
        # What has gone between the steps. Nothing comes in between here and the file.
        fresh = {name: model for name, model in fresh.items() if self.is_open and self._may_pass(name)}
        before, self._table, self._looking = self._table, fresh, False
        if fresh == before and self.version:
            return
        self.version += 1
        self.models = tuple(fresh.values())
        self._pace.changed(len(fresh), now)

    def _belongs(self, name: str, calls: _Calls, now: float) -> bool:
        if now - calls.last > IDLE_SECONDS or now < calls.out_until or not self._may_pass(name):
            return False
        return name in self._table or calls.last - calls.before <= IDLE_SECONDS

    def _known(self, name: str, calls: _Calls, now: float) -> KnownModel:
        known = self._table.get(name)
        sampled = is_sampled(
            self._demand.rate(name, now), self._settings.sampled_from, known is not None and known.sampled
        )
        if known is not None and (known.forms, known.sampled) == (calls.forms, sampled):
            return known
        return KnownModel(name, calls.forms, self._shares, sampled=sampled)

    def _worth(self, name: str) -> tuple[bool, float]:
        calls = self._calls.get(name)
        return name in self._table, 0.0 if calls is None else calls.last
