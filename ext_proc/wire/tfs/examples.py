"""What both APIs of TF Serving have in common of Classify and Regress."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ext_proc.wire.call import Verb
from ext_proc.wire.layouts import AnyLayout
from ext_proc.wire.ragged import Value

VERBS = frozenset({Verb.CLASSIFY, Verb.REGRESS})


@dataclass(frozen=True, slots=True)
class Items:
    """Examples or results, each of them one row as a whole: a `Cut` without tensors."""

    name: str
    layout: AnyLayout
    tails: ClassVar[Mapping[str, tuple[int, ...]]] = {}

    def resized(self, name: str, dim: int, size: int, value: Value, rows: int, data: Any) -> tuple[Self, Any]:
        """See `Cut`: there is nothing to resize."""
        raise ValueError(f"no {name}")
