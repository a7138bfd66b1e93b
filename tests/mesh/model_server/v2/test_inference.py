from collections.abc import Callable

import pytest

from mesh.model_server.v2.inference import bad_data
from mesh.tensors.dtypes import FLOAT, STRING
from mesh.tensors.v2 import DataError, DataFault, from_raw, from_values

BAD: list[tuple[Callable[[], object], DataFault, str]] = [
    (
        lambda: from_raw(b"1234", FLOAT, (2,)),
        DataFault.BYTE_SIZE,
        "[request id: r] input byte size mismatch for input 'x' for model 'm'. Expected 8, got 4",
    ),
    (
        lambda: from_raw(b"1234", FLOAT, (1,) * 100),
        DataFault.SHAPE,
        "[request id: r] the shape of input 'x' for model 'm' is not that of an array",
    ),
    (
        lambda: from_raw(b"\1\0", STRING, (1,)),
        DataFault.CUT_LENGTH,
        "[request id: r] incomplete string length indicator for inference input 'x' for model 'm', "
        "expecting 4 bytes but only 2 bytes available. Please make sure the string length indicator is in one buffer.",
    ),
    (
        lambda: from_raw(b"\5\0\0\0ab", STRING, (1,)),
        DataFault.CUT_STRING,
        "incomplete string data for inference input 'x', expecting string of length 5 but only 2 bytes available",
    ),
    (
        lambda: from_values([b"a"], STRING, (2,)),
        DataFault.FEW_STRINGS,
        "[request id: r] expected 2 string elements for inference input 'x' for model 'm', got 1",
    ),
    (
        lambda: from_values([b"a", b"b"], STRING, (1,)),
        DataFault.MANY_STRINGS,
        "[request id: r] unexpected number of string elements 2 for inference input 'x' for model 'm', expecting 1",
    ),
]


@pytest.mark.parametrize(("read", "fault", "text"), BAD)
def test_data_that_do_not_fill_their_shape_are_refused_in_tritons_words(
    read: Callable[[], object], fault: DataFault, text: str
) -> None:
    with pytest.raises(DataError) as caught:
        read()
    assert caught.value.fault is fault
    assert bad_data("m", "r", "x", caught.value).message == text


def test_every_fault_has_words() -> None:
    assert {fault for _, fault, _ in BAD} == set(DataFault)
