"""A walk over the top-level fields of a protobuf message that comes in chunks.

What is not wanted is skipped by counting, never kept: a tensor of 20 MiB costs nothing but its tag.
"""

from collections.abc import Iterator

from ext_proc.wire.protobuf import fields
from ext_proc.wire.protobuf.fields import malformed, read_varint, split_tag

MAX_WANTED = 16_384  # bytes of all wanted fields together: far over a model_spec's, far under a tensor's


class Scanner:
    """Gives the fields of one message, whatever chunks it comes in.

    `wanted` are the numbers of length-delimited fields whose content is given. Memory held: one wanted field,
    fifteen bytes of a tag that is not all here, and the open groups' numbers. At most MAX_FIELDS fields are walked,
    and MAX_WANTED bytes given.
    """

    __slots__ = (
        "_base",
        "_fields",
        "_groups",
        "_held",
        "_need",
        "_number",
        "_partial",
        "_skip",
        "_taken",
        "_wanted",
        "size",
    )

    def __init__(self, wanted: frozenset[int], size: int | None = None) -> None:
        self.size = size  # bytes of the whole message, where it is known
        self._wanted = wanted
        self._base = 0  # the place in the message of the next byte to come
        self._partial = b""  # the start of a field of which tag, length or number is not all here
        self._fields = 0
        self._taken = 0  # bytes of wanted fields, so far
        self._skip = 0
        self._need = 0  # bytes that the wanted field still lacks
        self._number = 0  # of the wanted field
        self._held = bytearray()
        self._groups: list[int] = []

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Each field of the message itself, as soon as it is known: its number, and its content if wanted.

        Other fields come when their tag has been read, with None. Raises CallError(INVALID) at bytes that are
        no protobuf, at wanted fields that are too large, and at too many fields.
        """
        data = self._partial + chunk if self._partial else chunk
        base = self._base - len(self._partial)
        self._base += len(chunk)
        self._partial = b""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
            elif self._need:
                piece = data[at : at + self._need]
                self._held += piece
                self._need -= len(piece)
                at += len(piece)
                if not self._need:
                    yield self._number, bytes(self._held)
            else:
                start = at
                tag, at = read_varint(data, start, base)
                number, wire = split_tag(tag, base + start) if at >= 0 else (0, 0)
                value = 0
                if at >= 0 and (wire == fields.LEN or wire == fields.VARINT):
                    value, at = read_varint(data, at, base)
                if at < 0:
                    self._partial = data[start:]
                    return
                self._fields += 1
                if self._fields > fields.MAX_FIELDS:
                    raise fields.too_many(base + start)
                if wire == fields.LEN:
                    self._check_fits(number, base + at + value, base + start)
                    if number in self._wanted and not self._groups:
                        self._taken += value
                        if self._taken > MAX_WANTED:
                            raise malformed(
                                f"field {number} of {value} bytes is too large to name a model", base + start
                            )
                        self._number, self._need = number, value
                        self._held.clear()
                        if not value:
                            yield number, b""
                        continue
                    self._skip = value
                elif wire == fields.FIXED64:
                    self._skip = 8
                elif wire == fields.FIXED32:
                    self._skip = 4
                if wire == fields.END_GROUP:
                    self._close(number, base + start)
                    continue
                if not self._groups:
                    yield number, None
                if wire == fields.START_GROUP:
                    self._open(number, base + start)

    def end(self) -> None:
        """The message is over. Raises CallError(INVALID) if it is over in the middle of a field."""
        if self._partial or self._skip or self._need or self._groups:
            raise malformed("the message is cut off", self._base)

    def _check_fits(self, number: int, end: int, start: int) -> None:
        if self.size is not None and end > self.size:
            raise malformed(f"field {number} runs past the end of the message", start)

    def _open(self, number: int, at: int) -> None:
        self._groups.append(number)
        if len(self._groups) > fields.MAX_DEPTH:
            raise malformed("groups are nested too deep", at)

    def _close(self, number: int, at: int) -> None:
        if not self._groups or self._groups.pop() != number:
            raise malformed("a group ends that was not begun", at)
