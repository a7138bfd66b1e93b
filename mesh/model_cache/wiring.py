"""The parts of one model cache, and which of them knows which."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mesh.model_cache.books.load_times import LoadTimes
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.commands import Commands
from mesh.model_cache.held_sessions import HeldSessions
from mesh.model_cache.loaders.loader import Loader
from mesh.model_cache.loads.admission import Admission
from mesh.model_cache.loads.bringing import Bringing
from mesh.model_cache.loads.fetching import Fetching
from mesh.model_cache.loads.jobs import Job, Jobs
from mesh.model_cache.loads.loading import Loading
from mesh.model_cache.loads.needed import Needed
from mesh.model_cache.loads.planning import Planning
from mesh.model_cache.loads.unloading import Carried, Unloading
from mesh.model_cache.maintenance import Maintenance
from mesh.model_cache.report import NodeReport
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.stores.store import Store
from mesh.model_cache.tasks import Tasks
from mesh.model_cache.versions import Versions


@dataclass(frozen=True, slots=True)
class Parts:
    """What the manager works with; see the class of each."""

    tasks: Tasks
    store_index: StoreIndex
    server: ServerHealth
    unloading: Unloading
    jobs: Jobs
    load_times: LoadTimes
    versions: Versions
    maintenance: Maintenance
    commands: Commands
    node_report: NodeReport
    sessions: HeldSessions


def wire(
    cache: CacheState,
    store: Store,
    loader: Loader,
    arrived: Callable[[CacheEntry, Job], None],
    failed: Callable[[Job], None],
    carried: Carried | None = None,
) -> Parts:
    """The parts over one state. `arrived` is called in the step in which a model becomes available, `failed` in the
    step in which its load fails.
    """
    tasks = Tasks()
    store_index = StoreIndex(cache.settings, store, cache.clock, tasks.spawn, loader.reads)
    server = ServerHealth(cache, loader)
    unloading = Unloading(cache, loader, server, tasks.spawn, carried)
    jobs = Jobs(cache, tasks.spawn, lambda key: bringing.bring(key), arrived, failed)
    versions = Versions(
        cache,
        store_index,
        tasks.spawn,
        lambda key: jobs.bring(key, partial(bringing.bring, key, newer=True)),
        unloading.begin,
    )
    planning = Planning(cache, store_index, versions)
    admission = Admission(cache, planning, jobs, unloading.carry_out)
    needed = Needed(cache, versions, jobs)
    fetching = Fetching(cache, store_index, store)
    loading = Loading(cache, admission, fetching, needed, loader, server, lambda key: _under_way(jobs, key).stages)
    bringing = Bringing(cache, admission, loading, needed, jobs, server)
    load_times = LoadTimes()
    sessions = HeldSessions(cache.lease, cache.clock)
    return Parts(
        tasks,
        store_index,
        server,
        unloading,
        jobs,
        load_times,
        versions,
        Maintenance(cache, tasks.spawn, versions, jobs, unloading, sessions, loader),
        Commands(cache, store_index, versions, planning, jobs, unloading),
        NodeReport(cache, store_index, versions, jobs, load_times),
        sessions,
    )


def _under_way(jobs: Jobs, key: Key) -> Job:
    """The load of that model, which is at work."""
    job = jobs.get(key)
    assert job is not None
    return job
