"""The node's report to the edges: residency of its models, room that is left, and a forecast of load times."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from mesh.model_cache.books.load_times import LoadTimes
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import ModelState, Room
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.feed import ResidencyReport
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.versions import Versions, VersionSpec
from mesh.residency.state import Residency

FORECAST_MODELS = 1000
"""Absent models that a full forecast names."""


@dataclass(frozen=True, slots=True)
class LoadForecast:
    """Seconds that a call for a model would wait for it: what is left of a load that goes on, else a whole one.

    `default` is for models that are not named; None while nothing was ever loaded here.
    """

    models: Mapping[str, float]
    default: float | None = None


class NodeReport:
    """Reads the state of the cache, and changes nothing but for the announcement that the node goes."""

    def __init__(
        self, cache: CacheState, store_index: StoreIndex, versions: Versions, jobs: Jobs, load_times: LoadTimes
    ) -> None:
        self._cache = cache
        self._store_index = store_index
        self._versions = versions
        self._jobs = jobs
        self._load_times = load_times

    def residency(self) -> ResidencyReport:
        """The residency of every model that is not absent."""
        return self._cache.feed.now()

    def standing(self, model: str) -> tuple[Residency, bool]:
        """The residency of one model, and whether the node has announced that it goes. One look-up."""
        return self._cache.feed.state(model), self._cache.feed.leaving

    def forecast(self, report: ResidencyReport) -> LoadForecast:
        """How long calls would wait for the models of a report that are not available; see `LoadForecast`.

        With a full report the models of the latest loads are in it, too: what is absent is not in the report.
        """
        models = dict.fromkeys(report.models)
        if report.full:
            models |= dict.fromkeys(self._load_times.latest(FORECAST_MODELS))
        waits = {}
        for model in models:
            state = self._cache.feed.state(model)
            if state is not Residency.AVAILABLE and (state is Residency.LOADING or model in self._load_times):
                seconds = self.expected_load_seconds(model)
                if seconds is not None:
                    waits[model] = seconds
        return LoadForecast(waits, self._load_times.mean)

    def subscribe(self) -> AsyncGenerator[ResidencyReport, None]:
        """The full report, then every change; see `Feed.subscribe`."""
        return self._cache.feed.subscribe()

    def free(self) -> Room:
        """The room that is neither in use nor promised."""
        return self._cache.free()

    def expected_load_seconds(self, model: str, version: VersionSpec = None, label: str | None = None) -> float | None:
        """Seconds that a call would wait for the model now: 0.0 if it is resident; None if nothing is known."""
        number = self._versions.number(model, version, label)
        in_use = self._versions.in_use(model)
        if number is None and in_use is not None and in_use.state is ModelState.AVAILABLE:
            return 0.0
        remote = (
            self._store_index.newest_known(model) if number is None else self._store_index.known(Key(model, number))
        )
        if remote is not None:
            number = remote.version
        key = None if number is None else Key(model, number)
        if key is not None and self._cache.available(key) is not None:
            return 0.0
        expected = self._load_times.expected(model, None if remote is None else remote.size_bytes)
        job = None if key is None else self._jobs.get(key)
        if expected is None or job is None:
            return expected
        return max(expected - (self._cache.clock() - job.begun), 0.0)

    def leave(self) -> None:
        """Announce to all subscribers that this node goes. Calls are still served."""
        self._cache.feed.leave()
