from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from ext_proc.grpc_framing import PREFIX_SIZE, prefix, read_prefix
from ext_proc.grpc_status import encode_message


@given(st.integers(min_value=0, max_value=2**32 - 1), st.binary(max_size=8))
def test_a_prefix_is_read_as_it_was_written(size: int, before: bytes) -> None:
    assert len(prefix(size)) == PREFIX_SIZE
    assert read_prefix(before + prefix(size), len(before)) == (0, size)


def test_a_prefix_is_a_flag_and_a_length_in_network_order() -> None:
    assert prefix(0x01020304) == b"\0\1\2\3\4"
    assert read_prefix(b"\1\0\0\2\0") == (1, 512)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_grpc_message_is_printable_ascii_that_decodes_to_itself(message: str) -> None:
    encoded = encode_message(message)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote(encoded.decode("ascii"), errors="strict") == message
