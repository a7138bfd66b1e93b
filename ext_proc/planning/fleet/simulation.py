"""A fleet in virtual time: recorded calls again, before the router, caches, warm-ups and races that a real fleet has.

The router, the books of the caches, the warm-up plan, the race, its estimates and its budget are the real ones. What
stands around them here takes its time as it was recorded: a call on a node that holds its model as long as calls of
that model took, in their order; a load as long as nodes have told. docs/whatif.md says what is not looked at.
"""

from collections.abc import Iterable

from ext_proc.planning.fleet.change import FleetChange
from ext_proc.planning.fleet.figures import Figures
from ext_proc.planning.fleet.profile import Profile
from ext_proc.planning.fleet.raced import race
from ext_proc.planning.fleet.routed import Warming, route
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.planning.fleet.world import World
from ext_proc.recording.calls import RecordedCall, Way
from mesh.warming.plan import WarmPlan

WARM_STEP = 0.5
"""Seconds between two looks at the warm-up plan. An edge looks more often, for nodes that come and go: none do here."""


def simulate(
    profile: Profile, calls: Iterable[RecordedCall], change: FleetChange, rules: NodeRules, warm_up: float = 0.0
) -> Figures:
    """Plays the calls, which come in the order of time, against the changed fleet. Those of the first `warm_up` seconds
    fill caches and do not count.

    Raises TbmsError for a recording without a fleet, and for a change that cannot be made to it.
    """
    return _Simulation(World(profile, change, rules), warm_up).run(calls)


class _Simulation:
    def __init__(self, world: World, warm_up: float) -> None:
        self._world = world
        self._counts_from = world.profile.begin + warm_up
        self._plan = WarmPlan(world.warm, world.router, world.cache_map, world.free)
        self._warms = world.warm.enabled and bool(world.nodes)

    def run(self, calls: Iterable[RecordedCall]) -> Figures:
        world, begin = self._world, self._world.profile.begin
        events, figures = world.events, world.figures
        if self._warms:
            events.at(begin, self._warm)
        counts, loads, batch_seconds = False, 0, 0.0
        for call in calls:
            now = call.at
            if events.next <= now:
                events.run(now)
            if not counts and now >= self._counts_from:
                counts, loads, batch_seconds = True, world.loads, world.batch_seconds
            if call.way is Way.RACED and call.plan is not None:
                race(world, call, call.plan, counts, now)
            else:
                route(world, call, counts, now)
        self._warms = False
        events.run()
        figures.loads = world.loads - loads
        figures.busy_seconds += world.batch_seconds - batch_seconds
        figures.seconds = max(world.profile.end - self._counts_from, 0.0)
        return figures

    def _warm(self, _: None, now: float) -> None:
        for warm_up in self._plan.next(now):
            Warming(self._world, self._plan, warm_up).begin(now)
        if self._warms:
            self._world.events.at(now + WARM_STEP, self._warm)
