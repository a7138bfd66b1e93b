"""The parts of one model cache, and which of them knows which."""

from collections.abc import Callable
from dataclasses import dataclass

from mesh.model_cache.books.load_times import LoadTimes
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.commands import Commands
from mesh.model_cache.loaders.loader import Loader
from mesh.model_cache.loads.admission import Admission
from mesh.model_cache.loads.fetching import Fetching
from mesh.model_cache.loads.jobs import Job, Jobs
from mesh.model_cache.loads.loading import Loading
from mesh.model_cache.loads.unloading import Unloading
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


def wire(cache: CacheState, store: Store, loader: Loader, arrived: Callable[[CacheEntry, Job], None]) -> Parts:
    """The parts over one state. `arrived` is called in the step in which a model becomes available."""
    tasks = Tasks()
    store_index = StoreIndex(cache.settings, store, cache.clock, tasks.spawn, loader.reads)
    server = ServerHealth(cache, loader)
    unloading = Unloading(cache, loader, server, tasks.spawn)
    admission = Admission(cache, store_index, unloading.carry_out)
    loading = Loading(cache, admission, Fetching(cache, store_index, store), loader, server)
    jobs = Jobs(cache, tasks.spawn, loading.bring, arrived)
    load_times = LoadTimes()
    versions = Versions(cache, store_index, tasks.spawn, jobs.bring, unloading.begin)
    return Parts(
        tasks,
        store_index,
        server,
        unloading,
        jobs,
        load_times,
        versions,
        Maintenance(cache, tasks.spawn, versions, jobs, unloading),
        Commands(cache, store_index, versions, jobs, unloading),
        NodeReport(cache, store_index, versions, jobs, load_times),
    )
