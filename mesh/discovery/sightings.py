"""Sightings: what each source said last, since when it says nothing, and the set of nodes that follows from that."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from mesh.discovery.flapping import FlapDamper
from mesh.discovery.merge import NodeSet, merge
from mesh.errors import MeshError
from mesh.node import Node

MOST_NODES = 5000
"""Of one source. A larger snapshot is refused and the one before stays: it is a mistake, or an attack."""
SPACING = 0.1
"""Seconds between two changes of the set: what sources say in between goes into one change."""
_SENTENCES = 100  # of those left out, kept for people to read


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source as of now. `age`: seconds since it last said what its nodes are; None while it never has. `down`:
    seconds since when it cannot say, with `cause`; None while it can. `held`: its nodes that are held back."""

    name: str
    nodes: int
    age: float | None
    down: float | None
    cause: str | None
    held: tuple[str, ...]


@dataclass(slots=True)
class _Source:
    nodes: tuple[Node, ...] = ()
    left_out: tuple[str, ...] = ()
    heard: float | None = None
    down: float | None = None
    cause: str | None = None
    damper: FlapDamper = field(default_factory=FlapDamper)
    awaited: bool = False
    """Whether it came with `replace` and has not said what its nodes are."""


class Sightings:
    """Of all sources, the earlier ones first: where they clash, the earlier one wins.

    A source that is down keeps its last nodes in force, however long: whether they live is what probes find out.
    `steady` are the sources whose nodes are never held back: a person writes them. `now` in seconds, never going back.
    """

    def __init__(self, names: Iterable[str], steady: Iterable[str] = ()) -> None:
        self._sources = {name: _Source() for name in names}
        self._steady = frozenset(steady)
        self._retired: dict[str, _Source] = {}
        self._was_complete = False
        self._changed = False
        self._applied = float("-inf")
        self._held_until: float | None = None

    def took(self, name: str, found: NodeSet, now: float) -> None:
        """The source says that these are its nodes. Raises MeshError for too many."""
        if len(found.nodes) > MOST_NODES:
            raise MeshError(f"It names {len(found.nodes)} nodes, over the limit of {MOST_NODES}.")
        source = self._sources[name]
        source.down = source.cause = None
        first, source.heard = source.heard is None, now
        source.awaited = False
        if self._retired and not self._awaits():
            self._retired.clear()
            self._changed = True
        left_out = found.conflicts[:_SENTENCES]
        if not first and found.nodes == source.nodes and left_out == source.left_out:
            return
        source.nodes, source.left_out = found.nodes, left_out
        if name not in self._steady:
            source.damper.see((node.id for node in found.nodes), now)
        self._changed = True

    def failed(self, name: str, cause: str, now: float) -> None:
        """The source cannot say what its nodes are."""
        source = self._sources[name]
        source.cause = cause
        if source.down is None:
            source.down = now

    def replace(self, former: Mapping[str, str | None]) -> None:
        """These are the names of the sources from now on, in order, each with the name that it had until now; None for
        a new one. Nodes of sources that go stay in force, behind all others, until the new ones have said what
        their nodes are: a source that is only spelled in another way takes none away.
        """
        self._was_complete = self.complete
        before = self._sources
        self._sources = {
            name: _Source(awaited=True) if had is None else before[had] for name, had in former.items()
        }  # fmt: skip
        for name, source in before.items():
            if name not in former.values() and source.nodes:
                self._retired[_unlike(f"{name}, replaced", self._retired)] = source
        if not self._awaits():
            self._retired.clear()
        self._changed = True

    def _awaits(self) -> bool:
        return any(source.awaited for source in self._sources.values())

    @property
    def heard(self) -> bool:
        """Whether every source has said something: what its nodes are, or that it cannot say."""
        return all(source.heard is not None or source.down is not None for source in self._sources.values())

    @property
    def pending(self) -> bool:
        """Whether something was said that `apply` has not taken over yet."""
        return self._changed

    @property
    def complete(self) -> bool:
        """Whether every source has said at least once what its nodes are. Sources that `replace` brings do not change
        it: until they have, the nodes of those that they stand for are in force."""
        return self._was_complete or all(source.heard is not None for source in self._sources.values())

    def due(self, now: float) -> float | None:
        """When `apply` has something to do next; None until a source says something."""
        if self._changed:
            return max(now, self._applied + SPACING)
        return self._held_until

    def apply(self, now: float) -> NodeSet | None:
        """The set of nodes from now on, or None if it stays, or is too young to be changed."""
        due = self.due(now)
        if due is None or now < due:
            return None
        self._changed, self._applied = False, now
        every = [*self._sources.values(), *self._retired.values()]
        ends = [end for source in every if (end := source.damper.due(now)) is not None]
        self._held_until = min(ends, default=None)
        heard = {name: source for name, source in self._sources.items() if source.heard is not None}
        merged = merge((name, self._let_in(source, now)) for name, source in heard.items())
        refused = [f"{sentence} ({name})" for name, source in heard.items() for sentence in source.left_out]
        nodes = merged.nodes
        if self._retired:
            # What clashes with a node of those that stay is no news: it is the same node as a rule.
            behind = ((name, self._let_in(source, now)) for name, source in self._retired.items())
            nodes = merge([("", nodes), *behind]).nodes
        return NodeSet(nodes, (*merged.conflicts, *refused))

    def states(self, now: float) -> tuple[SourceState, ...]:
        """Every source, in order, and at last those that went and whose nodes are still in force."""
        return tuple(
            SourceState(
                name, len(source.nodes), _since(source.heard, now), _since(source.down, now), source.cause,
                tuple(sorted(source.damper.held(now))),
            )
            for name, source in (*self._sources.items(), *self._retired.items())
        )  # fmt: skip

    def _let_in(self, source: _Source, now: float) -> tuple[Node, ...]:
        held = source.damper.held(now)
        return tuple(node for node in source.nodes if node.id not in held) if held else source.nodes


def _unlike(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += " again"
    return name


def _since(then: float | None, now: float) -> float | None:
    return None if then is None else now - then
