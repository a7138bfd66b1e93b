"""HPACK, the reading half (RFC 7541): the fields of a header block, in time that is linear in its length.

A block that is over the bounds of a list is still read as far as the dynamic table needs it, so that the blocks that
follow can be read; what does not touch the table is skipped. Tables and Huffman code are those of the `hpack` package,
whose own decoder copies the rest of the block for each field.
"""

from typing import Final

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from ext_proc.http2.frames import ConnectionFault, ErrorCode
from ext_proc.http2.limits import Limits

Fields = list[tuple[bytes, bytes]]

# What a field counts on top of its name and value (RFC 9113, section 6.5.2).
_FIELD: Final = 32
# No integer of a block is as long: it would be a length beyond every bound, or an index beyond the table.
_LONGEST_INTEGER: Final = 4
# The 7, 6, 5 and 4 bits of a first byte that begin an integer.
_SEVEN, _SIX, _FIVE, _FOUR = 0x7F, 0x3F, 0x1F, 0x0F
_HUFFMAN: Final = 0x80


class WatchedTable(HeaderTable):
    """A dynamic table that tells whether it was touched."""

    touched = False

    def add(self, name: bytes, value: bytes) -> None:
        """See HeaderTable."""
        self.touched = True
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """See HeaderTable."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.touched = True
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class HpackDecoder:
    """Reads the blocks of one connection, in their order. `cost` is what the last one took, in the bytes of a turn."""

    __slots__ = ("_at", "_block", "_limits", "cost", "table")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._block = b""
        self._at = 0
        self.table = WatchedTable()
        self.cost = 0

    def decode(self, block: bytes) -> Fields | None:
        """The fields of a block; None if they are more than the limits allow a list, and the table is in step.

        Raises ConnectionFault where the table is lost: the block is not HPACK, or would cost too much to read.
        """
        self._block, self._at, self.cost = block, 0, 0
        try:
            return self._fields()
        except (HPACKError, IndexError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"a header block is not HPACK: {error}") from None
        finally:
            self._block = b""

    def _fields(self) -> Fields | None:
        block, limits, table = self._block, self._limits, self.table
        fields: Fields = []
        size = count = skipped = 0
        over = False
        while self._at < len(block):
            first = block[self._at]
            if first & 0x80:
                name, value = table.get_by_index(self._integer(_SEVEN))
            elif first & 0x40:
                name, value = self._name(_SIX), self._string()
                table.add(name, value)
            elif first & 0x20:
                if count:
                    raise HPACKError("the size of the table changes within a block")
                self._resize(self._integer(_FIVE))
                continue
            elif over:
                skipped += self._skip_literal()
                name = value = b""
            else:
                name, value = self._name(_FOUR), self._string()
            count += 1
            size += len(name) + len(value) + _FIELD
            if over:
                if size > 2 * limits.headers or size + skipped > limits.headers_read:
                    raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a list of headers is far over the limit")
            elif size > limits.headers or count > limits.fields:
                over = True
                fields = []
            else:
                fields.append((name, value))
        self.cost = size + count * _FIELD
        return None if over else fields

    def _resize(self, size: int) -> None:
        if size > HeaderTable.DEFAULT_SIZE:  # we never ask for another one
            raise HPACKError("the table is made larger than allowed")
        self.table.maxsize = size

    def _name(self, mask: int) -> bytes:
        """A name, by its index in the table or as it stands."""
        index = self._integer(mask)
        return self.table.get_by_index(index)[0] if index else self._string()

    def _string(self) -> bytes:
        packed = self._block[self._at] & _HUFFMAN
        text = self._take()
        return decode_huffman(text) if packed else text

    def _skip_literal(self) -> int:
        """Passes over a literal that does not touch the table; its length in bytes, as it comes."""
        if self._integer(_FOUR):
            return len(self._take())
        return len(self._take()) + len(self._take())

    def _take(self) -> bytes:
        """The bytes of a string."""
        size = self._integer(_SEVEN)
        start = self._at
        self._at = end = start + size
        if end > len(self._block):
            raise HPACKError("a string is longer than the block")
        return self._block[start:end]

    def _integer(self, mask: int) -> int:
        """Section 5.1; the bits of `mask` in the first byte begin it."""
        block, at = self._block, self._at
        value = block[at] & mask
        at += 1
        if value == mask:
            for shift in range(0, 7 * _LONGEST_INTEGER, 7):
                byte = block[at]
                at += 1
                value += (byte & 0x7F) << shift
                if byte < 0x80:
                    break
            else:
                raise HPACKError("an integer is too long")
        self._at = at
        return value
