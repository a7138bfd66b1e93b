"""Eviction: which models have to go so that another one fits. A decision over the books, without any effect."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState, Room, promised_to


@dataclass(frozen=True, slots=True)
class Evict:
    """There will be room once these models are unloaded and these files deleted; both least recently used first."""

    unload: tuple[Key, ...] = ()
    delete: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """There is no room now, for the `reason` (a clause). After `until` (seconds, monotonic) the answer may be another.

    None: time alone changes nothing, only the end of a call, a load or an unload does.
    """

    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The model would not fit into the empty node. `reason` is a clause that says both sizes."""

    reason: str


Verdict = Evict | Wait | TooLarge


@dataclass(frozen=True, slots=True)
class Rules:
    """What a node may hold, and what it may evict.

    `capacity` is the whole node. A model younger than `min_age` seconds since its load is not evicted: the node would
    only swap models back and forth. `keep_files`: the files of an unloaded model stay while the disk has room for
    them; otherwise they go with it.
    """

    capacity: Room
    min_age: float = 0.0
    pinned: frozenset[str] = frozenset()
    keep_files: bool = False


def make_room(
    rules: Rules,
    oldest_first: Iterable[CacheEntry],
    need: Room,
    spared: Collection[Key],
    now: float,
    users: Callable[[CacheEntry], Iterable[Key]] = lambda entry: (),
) -> Verdict:
    """How to free `need` more at the time `now` (seconds, monotonic).

    `oldest_first` is every entry of the books, least recently used first; `spared` are the models that the room is for,
    with what they need: they are no victims of their own. Files of models that are not loaded go first, and only for
    disk space. Then loaded models in strict order of use, but for those in flight, pinned, or of no help; a young one
    ends the search. `users` gives the models that need an entry and have a right to it: it goes only with them.
    """
    if not need.fits(rules.capacity):
        return TooLarge(too_large(need, rules.capacity))
    entries = list(oldest_first)
    short = need + promised_to(entries) - rules.capacity
    delete: list[Key] = []
    unload: dict[Key, None] = {}
    for entry in entries:
        if short.disk_bytes > 0 and _is_kept(entry) and entry.key not in spared:
            delete.append(entry.key)
            short -= Room(disk_bytes=entry.disk_bytes)
    again = True
    while again and not _enough(short):
        again = False
        for entry in entries:
            if _enough(short):
                break
            if entry.state is not ModelState.AVAILABLE or entry.in_flight or entry.key.model in rules.pinned:
                continue
            if entry.key in spared or entry.key in unload or not unload.keys() >= set(users(entry)):
                continue
            if not _helps(entry, short) and not entry.needs:
                continue
            old_enough = entry.since + rules.min_age
            if now < old_enough:
                return Wait("the model to make room was itself loaded a moment ago", until=old_enough)
            unload[entry.key] = None
            files_go = not rules.keep_files or short.disk_bytes > 0
            if files_go:
                delete.append(entry.key)
            short -= Room(1, entry.disk_bytes if files_go else 0, entry.memory_bytes)
            # What it needs may go as well now. As a rule that comes later in the order of use; if not, look again.
            again = again or bool(entry.needs)
    if _enough(short):
        return Evict(tuple(unload), tuple(delete))
    return Wait("every model that could make room is in use, pinned or on its way")


def _is_kept(entry: CacheEntry) -> bool:
    return entry.state in (ModelState.ABSENT, ModelState.FAILED) and entry.disk_bytes > 0 and not entry.leaving


def _enough(short: Room) -> bool:
    return short.models <= 0 and short.disk_bytes <= 0 and short.memory_bytes <= 0


def _helps(entry: CacheEntry, short: Room) -> bool:
    return (
        short.models > 0
        or (short.memory_bytes > 0 and entry.memory_bytes > 0)
        or (short.disk_bytes > 0 and entry.disk_bytes > 0)
    )


def too_large(need: Room, capacity: Room) -> str:
    """Why so much does not go into the empty node: a clause about what `it` takes."""
    if need.disk_bytes > capacity.disk_bytes:
        return f"it takes {_bytes(need.disk_bytes)} of disk, and the node has {_bytes(capacity.disk_bytes)}"
    if need.memory_bytes > capacity.memory_bytes:
        return f"it takes {_bytes(need.memory_bytes)} of memory, and the node has {_bytes(capacity.memory_bytes)}"
    return f"it takes {need.models:g} places, and the node has {capacity.models:g}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
