"""The relations between the models of a node: which entry of the books needs which others, and who needs it."""

from collections.abc import Hashable
from typing import TypeVar

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import Need
from mesh.model_cache.books.states import CacheEntry, ModelState

T = TypeVar("T", bound=Hashable)

# Of several versions that could serve a need without a version, those in the best of these states count, and of these
# the newest: Triton uses the newest that it has loaded, for as long as that is loaded.
_RANK = {
    ModelState.AVAILABLE: 3,
    ModelState.DRAINING: 2,
    ModelState.LOADING: 1,
    ModelState.FETCHING: 1,
}
_IN_USE = frozenset(_RANK)


class Relations:
    """Every entry by model and version, and by what it needs. Each question costs as much as its answer is long."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, CacheEntry]] = {}
        self._users: dict[str, dict[Key, CacheEntry]] = {}

    def add(self, entry: CacheEntry) -> None:
        """A new entry."""
        self._versions.setdefault(entry.key.model, {})[entry.key.version] = entry

    def remove(self, entry: CacheEntry) -> None:
        """The entry is dropped from the books."""
        self.relate(entry, ())
        _discard(self._versions, entry.key.model, entry.key.version)

    def versions(self, model: str) -> list[CacheEntry]:
        """The entries of all versions of a model."""
        return list(self._versions.get(model, {}).values())

    def relate(self, entry: CacheEntry, needs: tuple[Need, ...]) -> None:
        """The entry needs these from now on, and no others."""
        for need in entry.needs:
            _discard(self._users, need.model, entry.key)
        entry.needs = needs
        for need in needs:
            self._users.setdefault(need.model, {})[entry.key] = entry

    def meant(self, need: Need) -> CacheEntry | None:
        """The entry that serves a need, or will; None where nothing that could is loaded or on its way."""
        versions = self._versions.get(need.model, {})
        if need.version is not None:
            entry = versions.get(need.version)
            return entry if entry is not None and entry.state in _IN_USE else None
        best: CacheEntry | None = None
        for entry in versions.values():
            if entry.state in _IN_USE and (best is None or _order(entry) > _order(best)):
                best = entry
        return best

    def serving(self, need: Need) -> CacheEntry | None:
        """The entry that serves a need now: it is available."""
        entry = self.meant(need)
        return entry if entry is not None and entry.state is ModelState.AVAILABLE else None

    def users(self, entry: CacheEntry) -> list[CacheEntry]:
        """The entries that are loaded or on their way, and need this one."""
        return [
            user
            for user in self._users.get(entry.key.model, {}).values()
            if user.state in _IN_USE
            and any(need.model == entry.key.model and self.meant(need) is entry for need in user.needs)
        ]

    def all_users(self, model: str) -> set[Key]:
        """The entries, loaded or on their way, that need a model in any version, by others or by themselves."""
        found: set[Key] = set()
        todo = [model]
        while todo:
            for user in self._users.get(todo.pop(), {}).values():
                if user.state in _IN_USE and user.key not in found:
                    found.add(user.key)
                    todo.append(user.key.model)
        return found

    def parts(self, entry: CacheEntry) -> tuple[CacheEntry, ...] | None:
        """All that an entry needs, at any depth, each after its users; None where one of them is not available."""
        reversed_order: dict[CacheEntry, None] = {}
        seen: set[Key] = set()

        def visit(user: CacheEntry) -> bool:
            for need in reversed(user.needs):
                part = self.serving(need)
                if part is None:
                    return False
                if part.key not in seen:
                    seen.add(part.key)
                    if not visit(part):
                        return False
                    reversed_order[part] = None
            return True

        return tuple(reversed(reversed_order)) if visit(entry) else None


def _order(entry: CacheEntry) -> tuple[int, int]:
    return _RANK[entry.state], entry.key.version


def _discard(table: dict[str, dict[T, CacheEntry]], model: str, each: T) -> None:
    entries = table.get(model)
    if entries is not None:
        entries.pop(each, None)
        if not entries:
            del table[model]
