"""What is known of calls before they come: for each model that needs no decision, its nodes in order, with shares.

Envoy sends such calls by itself (docs/known-calls.md), so this process hears of them no more. What is known is decided
anew every `seconds`, and at once when a holder goes; a table comes out only where it differs from the one before.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from mesh.bounded import Memo
from mesh.known_map import PARTS, KnownModel, Pace, Shares, is_sampled
from mesh.names import name_fault
from mesh.node import ProtocolKind
from mesh.residency.state import Residency
from mesh.routing.choice import choose
from mesh.routing.load import Excess, NodeLoad
from mesh.routing.router import Router
from mesh.routing.settings import KnownSettings
from mesh.routing.shortlist import Distance, NodeState, Shortlist

_STEP = 4
"""Parts by which some share has to be another one before the table changes for it."""
_KEEPS = 1.5
"""So many times as much in demand is a model that takes another one's place."""
_UNSEEN_SECONDS = 600.0
"""Time constant by which the demand of a model fades whose calls are not seen."""
_CHUNK = 50
"""Models that one step goes over: a millisecond or two at the most."""


class Absence(StrEnum):
    """Why a model is not in the table; see `KnownModels.absence`."""

    DECISION = "decision"
    """Its calls need decisions."""
    NOT_HELD = "not-held"
    """The node that would get a call is not known to hold it."""
    NOT_CALLED = "not-called"
    """No such call has come lately."""
    WAITS = "waits"
    """It comes in with the next look, unless the table is full of models that are more in demand."""


@dataclass(slots=True)
class _Place:
    """A model's place in the table: what is known, from what that follows, and how much the model was in demand."""

    model: KnownModel
    basis: object
    rate: float
    at: float


class KnownModels:
    """The table of known calls. Pure: times are seconds of one monotonic clock.

    `needs_decision` says of a model's name whether its calls are more than just routed. Forms are bits, whose meaning
    is the caller's; those in `grpc_forms` need a node's gRPC endpoint, the others its REST endpoint.

    A model that is known stays so for as long as it is held, and gives up its place only to one that is more in demand.
    `sees_all` says whether the router is told of known calls, too, so that `Router.demand` is that of all.
    """

    def __init__(
        self, settings: KnownSettings, router: Router, needs_decision: Callable[[str], bool], grpc_forms: int
    ) -> None:
        self._settings = settings
        self._router = router
        self._grpc_forms = grpc_forms
        self.needs_decision = needs_decision
        self.sees_all = False
        self._seen: Memo[int] = Memo(settings.models)
        self._table: dict[str, _Place] = {}
        self._pace = Pace(settings.seconds)
        self._busy = self._looking = False
        self._looked_at: object = None
        """What the last look went by; None where something has come that it has not seen."""
        self.models: tuple[KnownModel, ...] = ()
        """What is known, as `look` has found it last."""
        self.version = 0
        """Moves when `models` become others; 0 before the first look."""

    @property
    def wake_up(self) -> float:
        """When `look` is to be called next."""
        return self._pace.wake_up

    def __contains__(self, model: str) -> bool:
        return model in self._table

    def find(self, model: str) -> KnownModel | None:
        """What is known of the model."""
        place = self._table.get(model)
        return None if place is None else place.model

    def absence(self, model: str, form: int) -> Absence | None:
        """Why no nodes are known for calls of that form; None where they are. Changes nothing."""
        kind: ProtocolKind = "grpc" if form & self._grpc_forms else "rest"
        place = self._table.get(model)
        if place is not None and place.model.forms & form and place.model.shares.get(kind):
            return None
        if self.needs_decision(model):
            return Absence.DECISION
        if not self._shares(model, kind, self._router.shortlist(model, kind, remember=False), ()):
            return Absence.NOT_HELD
        return Absence.WAITS if (self._seen.peek(model) or 0) & form else Absence.NOT_CALLED

    def called(self, model: str, form: int) -> bool:
        """A call for the model that only had to be routed has come in that form. Whether the model is known."""
        seen = self._seen.get(model)
        if seen is None or not seen & form:
            self._seen.put(model, (seen or 0) | form)
            self._looked_at = None
        return model in self._table

    def ended(self, model: str, now: float) -> None:
        """Calls for the model that the map knew have ended, and the router's demand says so."""
        place = self._table.get(model)
        if place is not None and self._sampled(model, place, now) is not place.model.sampled:
            self._looked_at = None

    def lost(self, model: str, now: float) -> None:
        """A holder of the model goes, or (empty) a node, or models need decisions from now on: `wake_up` is soon."""
        if model in self._table or self._looking or not model:
            self._looked_at = None
            self._pace.hurry(now)

    def start(self, now: float) -> None:
        """See `Pace.start`; by the first look nodes have told what they hold."""
        self._pace.start(now)

    def look(self, now: float) -> Iterator[None]:
        """Works the table out anew, some models at each step; `version` has moved if it became another one.

        Other calls of this object may come between the steps: the next look takes up what they tell, at the latest.
        """
        self._pace.looks(now)
        self._router.tick(now)
        self._busy = self._is_busy()
        conditions = (self._router.generation, self._busy)
        looked_at = (conditions, self._router.cache_map.changes)
        rests = not (self._busy or len(self._table) >= self._settings.models)
        if rests and looked_at == self._looked_at:
            return
        self._looked_at, self._looking = looked_at, True
        fresh: dict[str, _Place] = {}
        names = [*self._table, *[name for name in self._seen if name not in self._table]]
        for number, name in enumerate(names, start=1):
            place = self._place(name, conditions, now)
            if place is not None:
                fresh[name] = place
            if number % _CHUNK == 0:
                yield
        if len(fresh) > self._settings.models:
            most = heapq.nlargest(self._settings.models, fresh.values(), key=lambda place: self._worth(place, now))
            fresh = {place.model.name: place for place in most}
        before, self._table, self._looking = self._table, fresh, False
        same = fresh.keys() == before.keys() and all(fresh[name].model is before[name].model for name in fresh)
        if same and self.version:
            return
        self.version += 1
        self.models = tuple([place.model for place in fresh.values()])
        self._pace.changed(len(fresh), now)

    def _place(self, name: str, conditions: object, now: float) -> _Place | None:
        known = self._table.get(name)
        rate = self._router.demand.rate(name, now)
        if self.needs_decision(name) or (rate == 0.0 and known is None):
            return None
        forms = (self._seen.get(name) or 0) | (known.model.forms if known is not None else 0)
        kinds: list[ProtocolKind] = []
        if forms & ~self._grpc_forms:
            kinds.append("rest")
        if forms & self._grpc_forms:
            kinds.append("grpc")
        lists = [self._router.shortlist(name, kind) for kind in kinds]
        sampled = known is not None and self._sampled(name, known, now)
        basis = (forms, lists, self._router.spread_of(name), conditions, sampled)
        if known is not None and known.basis == basis and not self._crowded(known.model):
            if rate > self._faded(known, now):
                known.rate, known.at = rate, now
            return known
        if known is None and name_fault(name) is not None:
            return None
        before = {} if known is None else known.model.shares
        shares = {
            kind: found
            for kind, shortlist in zip(kinds, lists, strict=True)
            if (found := self._shares(name, kind, shortlist, before.get(kind, ())))
        }
        if not shares:
            return None
        tells = any(node.node.residency is not None for each in lists for tier in each.tiers for node in tier[1])
        model = KnownModel(name, forms, shares, tells, sampled)
        if known is None:
            return _Place(model, basis, rate, now)
        return _Place(known.model if model == known.model else model, basis, max(rate, self._faded(known, now)), now)

    def _sampled(self, name: str, known: _Place, now: float) -> bool:
        """Whether the model is called so often that not every call need be told of."""
        enough, before = self._settings.sampled_from, known.model.sampled
        if enough is None:
            return False
        if before and not self.sees_all:  # what is not told of is no sign that nobody calls
            return True
        return is_sampled(self._router.demand.rate(name, now), enough, before)

    def _shares(self, name: str, kind: ProtocolKind, shortlist: Shortlist, before: Shares) -> Shares:
        """Empty where the node that would get the call is not known to hold the model."""
        router = self._router
        spread = router.spread_of(name)
        order = choose(shortlist, spread, spread + router.settings.retries, _no_pressure)
        if not order or order[0].distance is Distance.FAR or not self._holds(order[0], name):
            return ()  # a map names endpoints; what goes by the header asks the server
        ranks, holders = shortlist.tiers[0]
        group, near = ranks[holders.index(order[0])] // spread, order[0].distance
        sharers = [order[0]] + [
            node
            for node in order[1:spread]
            if node.distance is near and self._holds(node, name) and ranks[holders.index(node)] // spread == group
        ]
        addressed = [node for node in order if node.distance is not Distance.FAR]
        endpoints = {id(node): endpoint for node in addressed if (endpoint := node.node.endpoint(kind)) is not None}
        fresh = tuple(
            (parts, (endpoints[id(node)], *[where for other, where in endpoints.items() if other != id(node)]))
            for node, parts in zip(sharers, self._parts(sharers), strict=True)
        )
        if [nodes for _, nodes in fresh] == [nodes for _, nodes in before] and all(
            abs(new - old) < _STEP for (new, _), (old, _) in zip(fresh, before, strict=True)
        ):
            return before
        return fresh

    def _parts(self, sharers: list[NodeState]) -> list[int]:
        """PARTS by weight, and less for a node that is busier than the others."""
        if len(sharers) == 1:
            return [PARTS]
        loads = [self._router.load(node.node.id) / node.node.weight for node in sharers]
        floor, mean = self._router.settings.load_floor, sum(loads) / len(loads)
        if max(loads) <= floor:
            loads = [mean] * len(loads)
        wanted = [node.node.weight * (mean + floor) / (load + floor) for node, load in zip(sharers, loads, strict=True)]
        scale, given = PARTS / sum(wanted), 0.0
        parts: list[int] = []
        for each in wanted:  # the rest of rounding goes on to the next
            given += each * scale
            parts.append(max(1, round(given) - sum(parts)))
        parts[parts.index(max(parts))] += PARTS - sum(parts)
        return parts

    def _holds(self, node: NodeState, model: str) -> bool:
        """Whether the node lives, stays, and has said or declares that it holds the model."""
        cache_map, node_id = self._router.cache_map, node.node.id
        if cache_map.state(node_id, model) is not Residency.AVAILABLE or cache_map.is_leaving(node_id):
            return False
        return node.alive and (cache_map.is_live(node_id) or cache_map.is_declared(node_id))

    def _is_busy(self) -> bool:
        """Whether loads matter for shares."""
        floor = self._router.settings.load_floor
        return any(self._router.load(node.id) > floor * node.weight for node in self._router.nodes)

    def _crowded(self, model: KnownModel) -> bool:
        """Whether shares are to be looked at again though nothing has happened but load."""
        return self._busy and any(len(shares) > 1 for shares in model.shares.values())

    def _worth(self, place: _Place, now: float) -> float:
        name = place.model.name
        if name not in self._table:
            return place.rate
        rate = self._router.demand.rate(name, now) if self.sees_all else self._faded(place, now)
        return rate * _KEEPS

    def _faded(self, place: _Place, now: float) -> float:
        return place.rate * math.exp(-max(now - place.at, 0.0) / _UNSEEN_SECONDS)


def _no_pressure(load: NodeLoad) -> tuple[Excess, int]:
    return Excess.NOTHING, 0
