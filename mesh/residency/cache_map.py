"""The cache map: which node holds which model, as far as this process knows.

What is known of a node comes from one of two sources. Its declaration (`Node.models`, from the
configuration) is the whole truth about a node that loads nothing by itself. A live report (a
snapshot, then changes) takes its place; a node that reports can load a model that it lacks. Of a
node with neither, single facts may be known from its replies (hints).

Frugal: for each model one bytes row with one byte for each node, so 10,000 models on 100 nodes are
a few MiB. A row is never changed in place: what was derived from a row still holds as long
as the row is the same object and `generation` has not moved.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from mesh.residency.state import Residency

_EMPTY = b""


class CacheMap:
    """Who holds what. Node ids that were never seen are taken in as they come."""

    def __init__(self) -> None:
        self.generation = 0
        """Moves when a node comes (the same row may then speak of another one), goes, or changes its source."""
        self.changes = 0
        """Moves with whatever becomes known."""
        self.on_loss: Callable[[str], None] = lambda model: None
        """Is called with a model when a node holds it no longer, with an empty name when a node announces its end."""
        self._rows: dict[str, bytes] = {}
        self._indices: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._declared: set[str] = set()
        self._live: set[str] = set()
        self._leaving: set[str] = set()

    def declare(self, node_id: str, models: Iterable[str]) -> None:
        """The configuration says that the node holds these models and no others; empty says nothing.

        Has no effect on a node with a live report.
        """
        if node_id in self._live:
            return
        names = frozenset(models)
        if not names and node_id not in self._declared:
            return
        self._replace(node_id, dict.fromkeys(names, Residency.AVAILABLE))
        (self._declared.add if names else self._declared.discard)(node_id)
        self.generation += 1

    def snapshot(self, node_id: str, models: Mapping[str, Residency]) -> None:
        """A live report: exactly these models are on the node, in these states; whatever was known before is void."""
        self._go_live(node_id)
        self._replace(node_id, models)

    def change(self, node_id: str, model: str, state: Residency) -> None:
        """A live report: this model is in that state on the node now."""
        self._go_live(node_id)
        self._set(self._index(node_id), model, state)

    def hint(self, node_id: str, model: str, state: Residency) -> None:
        """A node that does not report has said so in a reply: calls go by it, until it is taken back (ABSENT).

        Has no effect on a node with a live report, or one that is taken at its declaration.
        """
        if node_id not in self._live and node_id not in self._declared:
            self._set(self._index(node_id), model, state)

    def leave(self, node_id: str, leaving: bool = True) -> None:
        """The node has announced that it goes, or takes that back: it came again."""
        if leaving is not (node_id in self._leaving):
            (self._leaving.add if leaving else self._leaving.discard)(node_id)
            self.generation += 1
            self.changes += 1
            if leaving:
                self.on_loss("")

    def forget(self, node_id: str) -> None:
        """Nothing is known of the node any more: it left, or its live report was lost."""
        index = self._indices.pop(node_id, None)
        self._declared.discard(node_id)
        self._live.discard(node_id)
        self.leave(node_id, False)
        if index is not None:
            self._clear(index, keep={})
            self._ids[index] = None
            self.generation += 1

    def row(self, model: str) -> bytes | None:
        """What is known of the model, as a value to compare by identity and to hand to `states`; None: nothing."""
        return self._rows.get(model)

    def state(self, node_id: str, model: str) -> Residency:
        """The state of the model on that node."""
        row, index = self._rows.get(model, _EMPTY), self._indices.get(node_id)
        return Residency.ABSENT if index is None or index >= len(row) else Residency(row[index])

    def holders(self, model: str) -> dict[str, Residency]:
        """Every node on which the model is known to be in some state."""
        pairs = zip(self._ids, self._rows.get(model, _EMPTY), strict=False)
        return {node_id: Residency(code) for node_id, code in pairs if code and node_id is not None}

    def is_declared(self, node_id: str) -> bool:
        """Whether the node is taken at its declaration: what is not in it, it does not have and cannot load."""
        return node_id in self._declared

    @property
    def has_declarations(self) -> bool:
        """Whether any node is taken at its declaration."""
        return bool(self._declared)

    @property
    def is_any_live(self) -> bool:
        """Whether any node is."""
        return bool(self._live)

    def is_live(self, node_id: str) -> bool:
        """Whether the node reports what it holds."""
        return node_id in self._live

    def is_leaving(self, node_id: str) -> bool:
        """Whether the node has announced that it goes."""
        return node_id in self._leaving

    @property
    def leaving(self) -> frozenset[str]:
        """The nodes that have announced that they go."""
        return frozenset(self._leaving)

    def names(self) -> Collection[str]:
        """The models of which something is known."""
        return self._rows.keys()

    def models(self, node_id: str) -> dict[str, Residency]:
        """Everything that is known to be on one node. Looks at every model: not for every call."""
        index = self._indices.get(node_id)
        if index is None:
            return {}
        rows = self._rows.items()
        return {model: Residency(row[index]) for model, row in rows if index < len(row) and row[index]}

    def __len__(self) -> int:
        """Of how many models something is known."""
        return len(self._rows)

    def _go_live(self, node_id: str) -> None:
        if node_id not in self._live:
            self._declared.discard(node_id)
            if node_id in self._indices:
                self._clear(self._indices[node_id], keep={})
            self._live.add(node_id)
            self.generation += 1

    def _replace(self, node_id: str, models: Mapping[str, Residency]) -> None:
        index = self._index(node_id)
        self._clear(index, keep=models)
        for model, state in models.items():
            self._set(index, model, state)

    def _index(self, node_id: str) -> int:
        index = self._indices.get(node_id)
        if index is None:
            try:
                index = self._ids.index(None)
                self._ids[index] = node_id
            except ValueError:
                index = len(self._ids)
                self._ids.append(node_id)
            self._indices[node_id] = index
        return index

    def _clear(self, index: int, keep: Mapping[str, Residency]) -> None:
        stale = [model for model, row in self._rows.items() if len(row) > index and row[index] and model not in keep]
        for model in stale:
            self._set(index, model, Residency.ABSENT)

    def _set(self, index: int, model: str, state: Residency) -> None:
        row = self._rows.get(model, _EMPTY)
        known = row[index] if index < len(row) else Residency.ABSENT
        if known == state:
            return
        row = (row[:index].ljust(index, b"\0") + bytes((state,)) + row[index + 1 :]).rstrip(b"\0")
        if row:
            self._rows[model] = row
        else:
            self._rows.pop(model, None)
        self.changes += 1
        if known == Residency.AVAILABLE:
            self.on_loss(model)
