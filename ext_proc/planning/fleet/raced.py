"""A simulated call that is raced: the real race, and calls to nodes that take their time."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ext_proc.batching.waiting import Waiting
from ext_proc.broker.effects import Answer, Cancel, Effect, Start
from ext_proc.broker.plan import CallKey, Candidate, Mix, Plan
from ext_proc.broker.race import Race
from ext_proc.planning.fleet.cache_node import CacheNode
from ext_proc.planning.fleet.world import Target, World
from ext_proc.recording.calls import Ending, RecordedCall
from mesh.model_cache.books.states import CacheEntry
from mesh.node import Node
from mesh.routing.load import InFlight
from mesh.routing.placement import RESIDENT, ExpectedWait


def race(world: World, call: RecordedCall, plan: Plan, counts: bool, now: float) -> None:
    """Races the call by its recorded plan, as it is changed."""
    change = world.change
    changed = replace(
        plan,
        limit_ms=min(call.limit * 1000, world.broker.max_limit_ms) if change.limit_ms is None else change.limit_ms,
        candidates=plan.candidates if change.backups else plan.candidates[:1],
        answer=change.answer or plan.answer,
    )
    _RacedCall(world, call, changed, counts).begin(now)


def _combine(_: Mix, payloads: Mapping[int, Any]) -> Any:
    """What a mix answers does not matter here; its members are taken to fit together."""
    return next(iter(payloads.values()))


class _RacedCall:
    """One race. Its events are whatever its calls and its timer tell it."""

    __slots__ = ("_asked", "_call", "_counts", "_race", "_wakes", "_world")

    def __init__(self, world: World, call: RecordedCall, plan: Plan, counts: bool) -> None:
        self._world = world
        self._call = call
        self._counts = counts
        estimates = world.estimates.of_plan(plan, self._expected_wait, call.at)
        self._race = Race(plan, estimates, world.budget, _combine, arrival=call.at, margin_ms=world.broker.margin_ms)
        self._asked: dict[CallKey, _Asked] = {}
        self._wakes: float | None = None

    def begin(self, now: float) -> None:
        """The call has come."""
        if self._counts:
            self._world.figures.calls += 1
        self._perform(self._race.begin(now), now)
        if self._call.ending is Ending.GONE:
            self._world.events.at(now + self._call.took, self._left)

    def ended(self, asked: "_Asked", answered: bool, refused: bool, now: float) -> None:
        """One of its calls has ended."""
        self._asked.pop((asked.start.rank, asked.start.member), None)
        rank, member = asked.start.rank, asked.start.member
        if answered:
            took = (now - asked.began) * 1000
            self._world.estimates.observe(asked.start.candidate, asked.expected_wait, took, now)
            self._perform(self._race.result(rank, member, rank, now), now)
        else:
            self._perform(self._race.failed(rank, member, None, now, refused=refused), now)

    def _expected_wait(self, candidate: Candidate) -> ExpectedWait:
        world = self._world
        return world.router.expected_wait(candidate.model, self._call.at, world.kind)

    def _left(self, _: None, now: float) -> None:
        if not self._race.over:
            if self._counts:
                self._world.figures.gone += 1
            self._perform(self._race.cancelled(now), now)

    def _timer(self, when: float, now: float) -> None:
        if when == self._wakes:
            self._wakes = None
            self._perform(self._race.timer(now), now)

    def _perform(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            if isinstance(effect, Start):
                asked = self._asked[effect.rank, effect.member] = _Asked(self, effect, now)
                self._world.events.at(now, asked.send)
            elif isinstance(effect, Cancel):
                given_up = self._asked.pop((effect.rank, effect.member), None)
                if given_up is not None:
                    given_up.give_up(now)
            elif isinstance(effect, Answer) and effect.left_ms >= 0 and self._counts:
                self._world.figures.answered += 1
        wake = self._race.wake_up
        if wake is not None and wake != self._wakes:
            self._wakes = wake
            self._world.events.at(max(wake, now), self._timer, wake)

    @property
    def world(self) -> World:
        """Where it is raced."""
        return self._world

    @property
    def call(self) -> RecordedCall:
        """What was recorded of it."""
        return self._call

    @property
    def counts(self) -> bool:
        """Whether the call is one of those that count."""
        return self._counts


class _Asked:
    """One call of a race, on its node."""

    __slots__ = (
        "_entry",
        "_lease",
        "_node",
        "_nodes",
        "_over",
        "_raced",
        "_since",
        "_target",
        "_waiting",
        "began",
        "expected_wait",
        "start",
    )  # fmt: skip

    def __init__(self, raced: _RacedCall, start: Start, now: float) -> None:
        self.start = start
        self.began = now
        self.expected_wait = RESIDENT
        self._raced = raced
        self._over = False
        self._lease: InFlight | None = None
        self._node: CacheNode | None = None
        self._nodes: list[Node] = []
        self._entry: CacheEntry | None = None
        self._waiting: Waiting | None = None
        self._since = now
        self._target: Target = raced.world.target(start.candidate.title)

    def send(self, _: None, now: float) -> None:
        """It goes out."""
        if self._over:
            return
        world, model = self._raced.world, self._target.model
        placement = world.router.pick(model, now, world.kind, self.start.remaining_ms / 1000)
        self._lease = world.router.lease(placement)
        self._nodes = list(placement.nodes)
        self.expected_wait = world.router.wait_on(self._nodes[0].id, model, now)
        hit = self._ask(now)
        if self._raced.counts and self.start.rank == self.start.member == 0 and world.nodes:
            world.figures.told += 1
            world.figures.hits += hit

    def granted(self, entry: CacheEntry, now: float) -> None:
        """See Waiter."""
        figures = self._raced.world.figures
        if self._raced.counts and figures.cold_seconds is not None:
            figures.cold_seconds += now - self._since
        self._works(entry, now)

    def refused(self, now: float) -> None:
        """See Waiter."""
        if not self._over and not self._ask(now) and self._node is None:
            self._finish(now)
            self._raced.ended(self, False, True, now)

    def give_up(self, now: float) -> None:
        """The race needs it no longer."""
        took = (now - self.began) * 1000
        self._raced.world.estimates.given_up(self.start.candidate, self.expected_wait, took, now)
        if self._entry is None and self._node is not None:
            self._node.leave(self._target.key, self)
            if self._raced.counts and self._raced.world.figures.cold_seconds is not None:
                self._raced.world.figures.cold_seconds += now - self._since
        waiting, node = self._waiting, self._node
        self._finish(now)
        if waiting is not None and node is not None and node.device is not None:
            node.device.withdraw(waiting, now)

    def _ask(self, now: float) -> bool:
        """The next node, if there is one (else `_node` is None). Whether it works on the call at once."""
        world, key = self._raced.world, self._target.key
        self._node = None
        if not self._nodes:
            return False
        node_id = self._nodes.pop(0).id
        self._node = node = world.nodes.get(node_id)
        if node is None:
            self._works(None, now)
            return True
        entry = node.available(key)
        if entry is None:
            self._since = now
            node.ask(key, self, now)
            return False
        node.acquire(entry, now)
        self._works(entry, now)
        return True

    def _works(self, entry: CacheEntry | None, now: float) -> None:
        self._entry, self._since = entry, now
        device = None if self._node is None else self._node.device
        if device is not None and device.takes(self._target.model):
            left = self.start.remaining_ms / 1000 - (now - self.began)
            self._waiting = device.add(self._target.model, self._raced.call, left, self._out_of_batch, now)
            return
        run = next(self._target.runs)
        self._raced.world.events.at(now + run.seconds, self._done, run.answered)

    def _out_of_batch(self, answered: bool, now: float) -> None:
        """The end of its batch; or there is none, as it would be late."""
        if not self._over:
            self._finish(now)
            self._raced.ended(self, answered, not answered, now)

    def _done(self, answered: bool, now: float) -> None:
        if not self._over:
            self._finish(now)
            self._raced.ended(self, answered, False, now)

    def _finish(self, now: float) -> None:
        self._over = True
        if self._lease is not None:
            self._lease.release()
        entry, self._entry = self._entry, None
        if entry is not None and self._node is not None:
            self._node.release(entry, now)
        if self._raced.counts and entry is not None and self._waiting is None:
            self._raced.world.figures.busy_seconds += now - self._since
