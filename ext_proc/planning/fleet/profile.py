"""What a recording says: of its fleet, of how long calls and loads took, and of what was reached."""

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles
from typing import NamedTuple

from ext_proc.planning.fleet.figures import Figures
from ext_proc.planning.fleet.lru_curve import LruCurve
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way

REORDER_SECONDS = 120.0
"""A call is recorded when its end is heard of: for so long one that came before may follow."""
_MOST_RUNS = 512
"""Of a model are remembered; the newest count."""
_LATE = 4.0
"""A call that was still at it when its time was up is taken to last so many times as long as it was seen."""
_DEFAULT_RUN = 0.01


class Run(NamedTuple):
    """How one call of a model goes on a node that holds it: its seconds, and whether it is answered."""

    seconds: float
    answered: bool


class _Key(NamedTuple):
    """By what fleets differ, but for what they hold."""

    nodes: tuple[tuple[str, str, float, int | None], ...]
    settings: str


@dataclass(slots=True)
class Profile:
    """Made of a whole recording, by `profile_of`. Times in seconds.

    `runs` and `loads` by `Candidate.title`; `fleet` is the one that was there for longest. `recorded` is what was
    reached, from `warm_up` seconds after the first call on. `curve` is that of the calls of the same time.
    """

    fleet: RecordedFleet | None = None
    runs: dict[str, deque[Run]] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)
    recorded: Figures = field(default_factory=Figures)
    curve: LruCurve = field(default_factory=LruCurve)
    begin: float = 0.0
    end: float = 0.0
    usual_run: float = _DEFAULT_RUN
    usual_load: float | None = None


def in_order(portions: Iterable[Portion]) -> Iterator[RecordedCall]:
    """The calls of clients in the order in which they came, as far as they are not told of very late."""
    pending: list[RecordedCall] = []
    newest = float("-inf")
    for portion in portions:
        pending += [call for call in portion.calls if call.way is not Way.SAMPLE]
        newest = max([newest, *[call.at + call.took for call in portion.calls[-1:]]])
        if len(pending) > 50_000 or (pending and newest - pending[0].at > 2 * REORDER_SECONDS):
            pending.sort(key=_at)
            ripe = bisect_right(pending, newest - REORDER_SECONDS, key=_at)
            yield from pending[:ripe]
            del pending[:ripe]
    pending.sort(key=_at)
    yield from pending


def _at(call: RecordedCall) -> float:
    return call.at


def profile_of(portions: Iterable[Portion], warm_up: float = 0.0) -> Profile:
    """Reads it all. Calls, samples and fleets are taken as they come."""
    return _Reader(warm_up).read(portions)


class _Reader:
    def __init__(self, warm_up: float) -> None:
        self._profile = Profile()
        self._warm_up = warm_up
        self._fleets: defaultdict[_Key, float] = defaultdict(float)
        self._newest: dict[_Key, RecordedFleet] = {}
        self._current: _Key | None = None
        self._since = 0.0
        self._cold: dict[str, deque[float]] = {}
        self._decided = 0
        self._samples: Counter[bool] = Counter()
        self._sampled: list[float] = [0.0, 0.0]

    def read(self, portions: Iterable[Portion]) -> Profile:
        profile, tells = self._profile, False
        first = True
        for portion in portions:
            if portion.fleet is not None:
                tells = tells or any(node.tells for node in portion.fleet.nodes)
                self._fleet(portion.fleet, profile.end)
            for model, seconds in portion.loads:
                profile.loads[model] = seconds
            for call in portion.calls:
                if call.way is not Way.SAMPLE:
                    profile.begin = call.at if first else min(profile.begin, call.at)
                    first = False
                    profile.end = max(profile.end, call.at)
                self._call(call)
        if self._current is not None:
            self._fleets[self._current] += profile.end - self._since
        self._conclude(tells)
        return profile

    def _fleet(self, fleet: RecordedFleet, now: float) -> None:
        key = _Key(tuple([(node.id, node.zone, node.weight, node.slots) for node in fleet.nodes]), fleet.settings)
        if self._current is not None:
            self._fleets[self._current] += max(now - self._since, 0.0)
        self._current, self._since = key, now
        self._fleets[key] += 0.0
        self._newest.setdefault(key, fleet)

    def _call(self, call: RecordedCall) -> None:
        if call.way is Way.SAMPLE:
            self._sample(call)
            return
        figures = self._profile.recorded
        if call.way is Way.KNOWN:
            self._ran(call, call.weight)
        counts = call.at >= self._profile.begin + self._warm_up
        self._profile.curve.add(call.model, call.weight, counts)
        if not counts:
            return
        figures.calls += call.weight
        figures.told += call.weight
        figures.hits += 0 if call.cold else call.weight
        if call.way is Way.DECIDED:
            self._decided += 1
            return
        figures.gone += call.weight if call.ending is Ending.GONE else 0
        figures.answered += call.weight if call.ending is Ending.ANSWERED else 0
        if call.way is Way.KNOWN:
            figures.busy_seconds += call.took * call.weight

    def _sample(self, call: RecordedCall) -> None:
        if call.cold:
            if call.ending is Ending.ANSWERED:
                self._cold.setdefault(call.model, deque(maxlen=_MOST_RUNS)).append(call.took)
        else:
            self._ran(call, 1)
        if call.at < self._profile.begin + self._warm_up:
            return
        if call.node:  # one of the calls that the server routed
            self._samples[call.ending is Ending.ANSWERED] += 1
            if not call.cold:  # what others waited for a load is no work
                self._sampled[0] += 1
                self._sampled[1] += call.took
        elif not call.cold:
            self._profile.recorded.busy_seconds += call.took

    def _ran(self, call: RecordedCall, times: int) -> None:
        runs = self._profile.runs.get(call.model)
        if runs is None:
            runs = self._profile.runs[call.model] = deque(maxlen=_MOST_RUNS)
        late = call.ending is Ending.LATE
        run = Run(call.took * (_LATE if late else 1.0), late or call.ending is Ending.ANSWERED)
        runs.extend([run] * times)

    def _conclude(self, tells: bool) -> None:
        profile, figures = self._profile, self._profile.recorded
        if self._fleets:
            longest = max(self._fleets, key=lambda key: (self._fleets[key], len(key.nodes)))
            profile.fleet = self._newest[longest]
            figures.nodes = len(profile.fleet.nodes)
            figures.slots = slots_of(profile.fleet.nodes)
        if not tells:
            figures.told = figures.hits = 0
        figures.seconds = max(profile.end - profile.begin - self._warm_up, 0.0)
        seen = self._samples.total()
        figures.answered += self._decided * (self._samples[True] / seen if seen else 1.0)
        if self._sampled[0]:
            figures.busy_seconds += self._decided * self._sampled[1] / self._sampled[0]
        medians = [median(run.seconds for run in runs) for runs in profile.runs.values()]
        profile.usual_run = median(medians) if medians else _DEFAULT_RUN
        for model, took in self._cold.items():
            if model not in profile.loads:
                warm = profile.runs.get(model)
                usual = median(run.seconds for run in warm) if warm else profile.usual_run
                profile.loads[model] = max(_high(took) - usual, 0.0)
        profile.usual_load = fmean(profile.loads.values()) if profile.loads else None


def _high(took: Iterable[float]) -> float:
    """Of calls that waited for a load most came when it was under way: what the longest quarter of them begins with."""
    times = list(took)
    return times[0] if len(times) == 1 else quantiles(times, n=4, method="inclusive")[2]


def slots_of(nodes: Iterable[RecordedNode]) -> int | None:
    """The places of all nodes together; None where one of them has no limit, or tells nothing."""
    slots = [node.slots if node.tells else None for node in nodes]
    return sum([each for each in slots if each is not None]) if None not in slots else None
