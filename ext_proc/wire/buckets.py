"""Calls whose inputs differ in a dimension beside the rows share a batch: their inputs are padded to common sizes.

Only for models whose configuration says so: what a model makes of the padding is its own affair. See docs/batching.md.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Protocol

from ext_proc.wire.batch import Member
from ext_proc.wire.forms import Trim, place_of
from ext_proc.wire.ragged import Value

MAX_BLOCKS = 65_536
"""Places of one input at which elements are added: each takes about half a microsecond."""


class PaddedOutput(Protocol):
    """An output of which a dimension is that of a padded input."""

    @property
    def name(self) -> str:
        """The output."""

    @property
    def dim(self) -> int:
        """From 1 on: 0 are the rows."""


class Padding(Protocol):
    """How one input of a model is padded."""

    @property
    def input(self) -> str:
        """The input."""

    @property
    def dim(self) -> int:
        """From 1 on: 0 are the rows."""

    @property
    def buckets(self) -> Sequence[int]:
        """The sizes that the dimension is given, ascending: the least that is enough."""

    @property
    def value(self) -> Value:
        """What is added behind."""

    @property
    def outputs(self) -> Sequence[PaddedOutput]:
        """What is cut back in the reply."""


def in_buckets(member: Member, paddings: Sequence[Padding], most_bytes: int) -> Member:
    """The member with its inputs padded, and with what is to be cut back of its reply.

    It stays as it is where an input lacks the dimension or has none of its elements, is larger than all buckets, or
    has another type than the value; and where it would grow beyond `most_bytes`, or at more than MAX_BLOCKS places.
    """
    form, columns = member.form, list(member.columns)
    single_input = len({each.input for each in paddings}) == 1
    single_output = len({output.name for each in paddings for output in each.outputs}) == 1
    trims: list[Trim] = []
    size = member.size
    try:
        for padding in paddings:
            place, name = place_of(form, padding.input, single_input)
            if place is None:
                continue
            tensor = form.tensors[place]
            tail = tensor.tails[name]
            to = _bucket(tail, member.rows, padding)
            if to is None:
                return member
            own = tail[padding.dim - 1]
            if to == own:
                continue
            data = columns[place]
            # The data of a column that has several inputs may grow by less.
            if size + len(data) * to // own - len(data) > most_bytes:
                return member
            tensor, columns[place] = tensor.resized(name, padding.dim, to, padding.value, member.rows, data)
            size += len(columns[place]) - len(data)
            form = form.with_tensor(place, tensor)
            trims += [Trim(each.name, each.dim, own, to, single_output) for each in padding.outputs]
    except ValueError:
        return member
    if form is member.form:
        return member
    return replace(member, form=form, columns=tuple(columns), size=size, trims=tuple(trims))


def _bucket(tail: Sequence[int], rows: int, padding: Padding) -> int | None:
    """The size that the dimension is given. None: this is no input that is padded."""
    dim, buckets = padding.dim, padding.buckets
    if dim > len(tail) or not prod(tail) or rows * prod(tail[: dim - 1]) > MAX_BLOCKS:
        return None
    at = bisect_left(buckets, tail[dim - 1])
    return buckets[at] if at < len(buckets) else None
