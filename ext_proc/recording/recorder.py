"""The recorder of an edge: what it decides, hears and races, as calls to be written. Bounded; asks nobody, waits for
nothing.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping

from ext_proc.access_log.entries import EndedCall
from ext_proc.broker.effects import Answer, Fallback
from ext_proc.broker.fates import Fate, fates_of
from ext_proc.broker.plan import Candidate, Plan, members
from ext_proc.broker.race import Race
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way
from mesh.bounded import ByteMemo, keep_newest
from mesh.names import name_fault
from mesh.node import Node, ProtocolKind
from mesh.residency.line import Heard
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.settings import Settings

MOST_CALLS = 65_536
"""Calls that wait to be written; beyond, they are dropped and counted."""
FLEET_SECONDS = 10.0
"""How often the nodes are looked at."""
HELD_SECONDS = 60.0
"""How often is told what they hold, where nothing else has changed."""
_LATE_SECONDS = 0.5
"""By so much the log of a call's end, and the time of its start that follows from it, may be off."""
_REMEMBERED = 10_000
"""Models, or pairs of model and node, of which something is remembered."""
_HERE = frozenset({Residency.AVAILABLE, Residency.LOADING})


class Recorder:
    """Calls come in as they happen, in monotonic seconds; `take` gives them out in seconds since the epoch.

    `heard` says what a node told last, `sections` are settings that a replay needs, by their name in the file, and
    `epoch` is what is to be added to a monotonic time.
    """

    def __init__(
        self,
        router: Router,
        load_waits: LoadWaits,
        heard: Callable[[str], Heard | None],
        sections: Mapping[str, Settings],
        epoch: float,
    ) -> None:
        self._router = router
        self._load_waits = load_waits
        self._heard = heard
        self._settings = json.dumps(
            {name: section.model_dump(mode="json", exclude_unset=True) for name, section in sections.items()},
            separators=(",", ":"),
        )
        self._epoch = epoch
        self._calls: list[RecordedCall] = []
        self._loads: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._cold: dict[str, float] = {}
        """When a call for a model went to a node that did not hold it, the last time: by `node model`."""
        self._slots: dict[str, int] = {}
        self._fleet: tuple[object, ...] = ()
        self._unheard = True
        """Whether, at the last look, there were no nodes, or one whose word is still to come."""
        self._looked = self._described = -math.inf
        self.recorded = 0
        """Calls taken down since the start."""
        self.dropped = 0
        """Calls that were not, as too many waited to be written, or as their model has no name that one may have."""

    def decided(
        self,
        model: tuple[str, str | None, str | None],
        node: Node,
        plan: Plan | None,
        limit: float,
        size: int,
        now: float,
    ) -> None:
        """A call goes out to that node now, for a model by name, version and label; `limit` in seconds."""
        title = _TITLES[model]
        state = self._router.cache_map.state(node.id, model[0])
        cold = self._router.wait_on(node.id, model[0], now).cold
        if cold:
            keep_newest(self._cold, f"{node.id} {title}", now, _REMEMBERED)
            if state is not Residency.LOADING:
                self._expects(title, self._load_waits.seconds(node.id, model[0], now))
        self._note(now, title, Way.DECIDED, node=node.id, cold=cold, plan=plan, limit=limit, size=size)

    def ended(self, calls: Iterable[EndedCall], now: float) -> None:
        """Envoy tells that these have ended a moment ago."""
        for each in calls:
            call = each.call
            if call is None:
                continue
            title = _TITLES[call.model, call.version, call.label]
            node = self._router.at(each.node)
            ending = Ending.FAILED if each.answer_seconds is None else Ending.ANSWERED
            began, node_id = now - each.seconds, "" if node is None else node.id
            if each.known:
                self._note(began, title, Way.KNOWN, ending, node=node_id, took=each.seconds, weight=each.stands_for)
            else:
                cold = self._cold.get(f"{node_id} {title}", -math.inf) >= began - _LATE_SECONDS
                self._note(began, title, Way.SAMPLE, ending, node=node_id, cold=cold, took=each.seconds, weight=0)

    def raced(self, race: Race, size: int, now: float) -> None:
        """A race is over; `size` is that of the call's body."""
        plan, outcome = race.plan, race.outcome
        ending, rank, answered_by = _ending(race), -1, ""
        if isinstance(outcome, Answer):
            rank, answered_by = outcome.rank, getattr(outcome.payload, "node", "")
        node = self._router.at(answered_by) if answered_by else None
        primary = members(plan.candidates[0])[0]
        cold = race.estimates[0][0].cold
        if cold:
            self._expects(primary.title, self._told_of(primary.model, now))
        took = now - race.arrival if outcome is None else outcome.elapsed_ms / 1000
        self._note(
            race.arrival,
            _title(primary),
            Way.RACED,
            ending,
            node="" if node is None else node.id,
            cold=cold,
            plan=plan,
            limit=plan.limit_ms / 1000,
            took=took,
            rank=rank,
            size=size,
        )
        self._candidates(race)

    def take(self, now: float) -> Portion:
        """What has come since the last time, and the fleet where it has changed.

        It is looked at now and then, and with every call for as long as some node's word of what it holds is to come.
        """
        calls, self._calls = self._calls, []
        loads, self._loads = tuple(self._loads.items()), {}
        fleet = None
        if now - self._looked >= FLEET_SECONDS or (calls and self._unheard):
            self._looked = now
            fleet = self._changed_fleet(now)
        return Portion(tuple(calls), fleet, loads)

    def _candidates(self, race: Race) -> None:
        """How long each candidate took that was seen to its end, or was still at it when the time was up."""
        for (rank, member), call in fates_of(race).items():
            ending = _ENDINGS.get(call.fate)
            if ending is None or call.refused:
                continue
            self._note(
                race.arrival + call.begun / 1e6,
                _title(members(race.plan.candidates[rank])[member]),
                Way.SAMPLE,
                ending,
                cold=race.estimates[rank][member].cold,
                took=(call.ended - call.begun) / 1e6,
                weight=0,
            )

    def _note(
        self,
        at: float,
        title: str,
        way: Way,
        ending: Ending = Ending.UNSEEN,
        *,
        node: str = "",
        cold: bool = False,
        plan: Plan | None = None,
        limit: float = math.inf,
        took: float = 0.0,
        weight: int = 1,
        rank: int = -1,
        size: int = 0,
    ) -> None:
        if not title or len(self._calls) >= MOST_CALLS:
            self.dropped += 1
            return
        self.recorded += 1
        self._calls.append(
            RecordedCall(at + self._epoch, title, way, ending, node, cold, plan, limit, took, weight, rank, size)
        )

    def _expects(self, title: str, seconds: float | None) -> None:
        """A load of that model is expected to take so long."""
        if title and seconds is not None and self._told.get(title) != seconds:
            keep_newest(self._told, title, seconds, _REMEMBERED)
            self._loads[title] = seconds

    def _told_of(self, model: str, now: float) -> float | None:
        """What a load of the model would take on some node that does not hold it."""
        cache_map = self._router.cache_map
        for node in self._router.nodes:
            if cache_map.state(node.id, model) is not Residency.LOADING:
                seconds = self._load_waits.seconds(node.id, model, now)
                if seconds is not None:
                    return seconds
        return None

    def _changed_fleet(self, now: float) -> RecordedFleet | None:
        cache_map, nodes = self._router.cache_map, []
        for node in self._router.nodes:
            if not self._router.is_alive(node.id):
                continue
            held = tuple(model for model, state in cache_map.models(node.id).items() if state in _HERE)
            heard = self._heard(node.id)
            if heard is not None and heard.free_models < math.inf:
                # Versions of one model take a place each, and have one name: the most that was seen is the nearest.
                self._slots[node.id] = max(self._slots.get(node.id, 0), len(held) + int(heard.free_models))
            speaks = frozenset(kind for kind in _KINDS if node.endpoint(kind) is not None)
            slots, tells = self._slots.get(node.id), cache_map.is_live(node.id)
            nodes.append(RecordedNode(node.id, node.zone, node.weight, speaks, tells, slots, held))
        silent = {node.id for node in self._router.nodes if node.residency is None}
        self._unheard = not nodes or any(not node.tells and node.id not in silent for node in nodes)
        fleet = tuple([(node.id, node.zone, node.weight, node.speaks, node.tells, node.slots) for node in nodes])
        if not nodes or (fleet == self._fleet and now - self._described < HELD_SECONDS):
            return None
        self._fleet, self._described = fleet, now
        return RecordedFleet(tuple(nodes), self._settings)


_ENDINGS = {
    Fate.WON: Ending.ANSWERED,
    Fate.LOST: Ending.ANSWERED,
    Fate.LATE: Ending.LATE,
    Fate.FAILED: Ending.FAILED,
}
_KINDS: tuple[ProtocolKind, ...] = ("grpc", "rest")


def _ending(race: Race) -> Ending:
    match race.outcome:
        case Answer(left_ms=left):
            return Ending.ANSWERED if left >= 0 else Ending.LATE
        case Fallback():
            return Ending.FALLBACK
        case None:
            return Ending.GONE
    return Ending.LATE if race.outcome.left_ms <= race.margin_ms else Ending.FAILED


def _title(candidate: Candidate) -> str:
    return _TITLES[candidate.model, candidate.version, candidate.label]


def _written(asked: tuple[str, str | None, str | None]) -> str:
    """The title of what is asked for; empty for what no model can be called, which a client may have written."""
    if any(name_fault(part) is not None for part in asked if part is not None):
        return ""
    return Candidate(*asked).title


_TITLES = ByteMemo(_written)
