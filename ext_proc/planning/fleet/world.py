"""The world of a simulated fleet: its nodes with their caches, the edge's router, and the news between them."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import TypeVar

from pydantic import ValidationError

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.settings import BrokerSettings
from ext_proc.errors import TbmsError
from ext_proc.planning.fleet.cache_node import CacheNode
from ext_proc.planning.fleet.change import FleetChange
from ext_proc.planning.fleet.device import Device, check_curves
from ext_proc.planning.fleet.events import Events
from ext_proc.planning.fleet.figures import Figures
from ext_proc.planning.fleet.profile import Profile, Run, slots_of
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.recording.calls import RecordedNode
from mesh.model_cache.books.names import Key
from mesh.node import Node, ProtocolKind
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings
from mesh.settings import Settings, fault_place, fault_words
from mesh.warming.settings import WarmSettings

NEWS_SECONDS = 0.005
"""From a change on a node to its edges."""
_SAMPLE = 8
"""One in so many calls tells the router how long it took, as Envoy's log does."""

S = TypeVar("S", bound=Settings)


class Target:
    """What calls for one title mean: the model, its key in the caches, and how its calls go, one after the other."""

    __slots__ = ("key", "model", "runs")

    def __init__(self, title: str, runs: Iterable[Run]) -> None:
        name, _, version = title.partition(";version=")
        self.model = name.partition(";label=")[0]
        # Whoever names no version means the newest one.
        self.key = Key(self.model, int(version) if version.isdecimal() else 0)
        self.runs: Iterator[Run] = cycle(runs)


class World:
    """See the module. `nodes` are those that tell what they hold; all others are taken to hold everything.

    Raises TbmsError for a recording without a fleet, and for a change that cannot be made to it.
    """

    def __init__(self, profile: Profile, change: FleetChange, rules: NodeRules) -> None:
        if profile.fleet is None:
            raise TbmsError("the recording names no nodes: the edge had not heard of any")
        self.profile = profile
        self.change = change
        if rules.batching is not None:
            check_curves(rules.batching, rules.curves)
        self.events = Events()
        recorded = change.fleet(profile.fleet.nodes)
        try:
            sections = json.loads(profile.fleet.settings)
            routing = RoutingSettings.model_validate(sections.get("routing", {}))
            most = change.max_replicas
            if most is None and change.replicas is not None:
                most = max(routing.max_replicas, change.replicas)
            routing = _changed(routing, replicas=change.replicas, max_replicas=most)
            self.broker = _changed(
                BrokerSettings.model_validate(sections.get("broker", {})),
                margin_ms=change.margin_ms,
                hedge_share=change.hedge_share,
                hedge_burst_ms=change.hedge_burst_ms,
            )
            self.warm = WarmSettings.model_validate(sections.get("warm", {}))
        except (ValidationError, ValueError, AttributeError) as error:
            raise TbmsError(f"the fleet's settings would be wrong: {_first_line(error)}") from None
        self.cache_map, self._load_waits = CacheMap(), LoadWaits()
        self.router = Router(routing, self.cache_map, self._load_waits)
        self.router.update([_node(node) for node in recorded])
        # Which of the two a call took is not recorded.
        self.kind: ProtocolKind = "rest" if all("rest" in node.speaks for node in recorded) else "grpc"
        self.budget = TokenBucket(self.broker.hedge_share, self.broker.hedge_burst_ms)
        self.estimates = Estimates(self.broker)
        usual = profile.usual_load
        self._usual_load = self.broker.default_load_ms / 1000 if usual is None else usual
        self._targets: dict[str, Target] = {}
        self._ended = 0
        self.nodes = {node.id: self._cache_node(node, rules) for node in recorded if node.tells}
        self.figures = Figures(nodes=len(recorded), slots=slots_of(recorded), cold_seconds=0.0)

    def target(self, title: str) -> Target:
        """What calls for that title mean."""
        target = self._targets.get(title)
        if target is None:
            runs: Iterable[Run] = self.profile.runs.get(title) or (Run(self.profile.usual_run, True),)
            target = self._targets[title] = Target(title, runs)
        return target

    @property
    def loads(self) -> int:
        """Loads begun so far, on all nodes."""
        return sum(node.loads for node in self.nodes.values())

    def free(self, node_id: str) -> float:
        """For how many more models the node has room."""
        node = self.nodes.get(node_id)
        return 0.0 if node is None else node.free

    def took(self, model: str, seconds: float, now: float) -> None:
        """A call has ended; the router hears of some."""
        self._ended += 1
        if self._ended % _SAMPLE == 0:
            self.router.durations.took(model, seconds, now)

    @property
    def batch_seconds(self) -> float:
        """That devices worked on batches so far."""
        devices = (node.device for node in self.nodes.values())
        return sum(device.busy_seconds for device in devices if device is not None)

    def _cache_node(self, node: RecordedNode, rules: NodeRules) -> CacheNode:
        def tell(model: str, state: Residency, now: float) -> None:
            self.events.at(now + NEWS_SECONDS, self._hear, (node.id, model, state))

        begin = self.profile.begin
        slots = math.inf if node.slots is None else node.slots
        cache = CacheNode(slots, rules.cache, self._load_seconds, self.events, tell)
        if rules.batching is not None and rules.curves:
            cache.device = Device(rules.batching, rules.curves, self.events)
        held = [model for model in node.held if cache.adopt(Key(model, 0), begin)]
        self.cache_map.snapshot(node.id, dict.fromkeys(held, Residency.AVAILABLE))
        self._load_waits.told(node.id, {}, {}, self._usual_load, begin)
        return cache

    def _load_seconds(self, key: Key) -> float:
        title = f"{key.model};version={key.version}" if key.version else key.model
        return self.profile.loads.get(title, self._usual_load)

    def _hear(self, news: tuple[str, str, Residency], now: float) -> None:
        node_id, model, state = news
        self.cache_map.change(node_id, model, state)
        told = {} if state is Residency.AVAILABLE else {model: self.profile.loads.get(model, self._usual_load)}
        self._load_waits.told(node_id, {model: state}, told, self._usual_load, now)


def _node(node: RecordedNode) -> Node:
    """The node for the router; where its calls go does not matter."""
    return Node(
        node.id,
        grpc=f"{node.id}:grpc" if "grpc" in node.speaks else None,
        rest=f"{node.id}:rest" if "rest" in node.speaks else None,
        zone=node.zone,
        weight=node.weight,
    )


def _changed(settings: S, **changes: object) -> S:
    """The settings with those that are not None. Raises ValidationError."""
    return type(settings).model_validate(
        settings.model_dump(exclude_unset=True) | {name: value for name, value in changes.items() if value is not None}
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{fault_place(first)}: {fault_words(first)}"
    return str(error)
