"""Forms: all that a message with tensors says beside its id, its rows and its data.

What the protocols' forms have in common is here, and what can be done with any of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from ext_proc.wire.layouts import AnyLayout
from ext_proc.wire.names import quoted
from ext_proc.wire.ragged import Value


class Cut(Protocol):
    """What a form knows of one tensor, or of several that are written row by row."""

    @property
    def name(self) -> str:
        """As it is told in errors."""

    @property
    def layout(self) -> AnyLayout:
        """How its data are parted into rows."""

    @property
    def tails(self) -> Mapping[str, tuple[int, ...]]:
        """By tensor, the shape of a row of it; one that is not named is ""."""

    def resized(self, name: str, dim: int, size: int, value: Value, rows: int, data: Any) -> tuple[Self, Any]:
        """With this size of a dimension of the tensor `name`, its data cut off, or filled with `value`.

        Raises ValueError if these cannot be.
        """


class Form(Protocol):
    """What messages must have in common to be one: it compares and hashes by what it says."""

    @property
    def tensors(self) -> Sequence[Cut]:
        """In the order of the columns."""

    @property
    def wanted(self) -> frozenset[str]:
        """Of a request: the outputs that it asks for by name. Empty: all."""

    def with_tensor(self, place: int, tensor: Any) -> Self:
        """The form with this one in its place."""


def place_of(form: Form, name: str, single: bool) -> tuple[int | None, str]:
    """The place of the tensor of this name, and what the one there calls it: "" for one that is not named.

    `single` says that there is no other, so that one without a name is it.
    """
    for place, tensor in enumerate(form.tensors):
        if name in tensor.tails:
            return place, name
        if single and "" in tensor.tails and len(form.tensors) == 1:
            return place, ""
    return None, name


def names_of(form: Form) -> list[str]:
    """The names of its tensors."""
    return [tensor.name for tensor in form.tensors]


OwnForm = TypeVar("OwnForm", bound=Form)
"""The form of one codec."""


class Trim(NamedTuple):
    """An output of which the dimension `dim` has `padded` elements, and is to have `own` of them.

    `single`: no other output is cut back, so one that the reply does not name is it.
    """

    output: str
    dim: int
    own: int
    padded: int
    single: bool


def trimmed(form: OwnForm, rows: int, columns: Sequence[Any], trims: Sequence[Trim]) -> tuple[OwnForm, list[Any]]:
    """A message of so many rows, its outputs cut back. Raises ValueError where one is not as large as it was padded."""
    columns = list(columns)
    for trim in trims:
        place, name = place_of(form, trim.output, trim.single)
        if place is None:
            continue  # not asked for
        tensor = form.tensors[place]
        tail = tensor.tails[name]
        if tail[trim.dim - 1 : trim.dim] != (trim.padded,):
            raise ValueError(f"the output {quoted(trim.output)} has no dimension {trim.dim} of {trim.padded}")
        tensor, columns[place] = tensor.resized(name, trim.dim, trim.own, 0, rows, columns[place])
        form = form.with_tensor(place, tensor)
    return form, columns
