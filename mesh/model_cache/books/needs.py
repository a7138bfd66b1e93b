"""What a model needs: other models that must be loaded while it is, and the order in which they are loaded."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mesh.errors import MeshError

MAX_NEEDED = 256
"""Models that one model may need, with those that these need."""


class Need(NamedTuple):
    """One model that another one needs: that version, or with None the newest that is loaded."""

    model: str
    version: int | None = None

    def __str__(self) -> str:
        return self.model if self.version is None else f"{self.model}:{self.version}"


class Entangled(MeshError):
    """A model that needs itself, or needs too many others. The message is a clause."""


def parts_first(model: str, needs: Callable[[str], Iterable[str]]) -> list[str]:
    """The model and all that it needs, each after what it needs itself. Raises Entangled.

    `needs` gives the names of the models that a model needs, not those that these need in turn.
    """
    order: dict[str, None] = {}
    chain: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in chain:
            circle = " -> ".join(map(ascii, [*chain[chain.index(name) :], name]))
            raise Entangled(f"models need each other in a circle, {circle}")
        if len(order) + len(chain) > MAX_NEEDED:
            raise Entangled(f"{model!a} needs more than {MAX_NEEDED} other models")
        chain.append(name)
        for each in needs(name):
            visit(each)
        chain.pop()
        order[name] = None

    visit(model)
    return list(order)
