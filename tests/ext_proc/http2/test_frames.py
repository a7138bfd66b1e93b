import pytest

from ext_proc.http2 import frames
from ext_proc.http2.frames import ConnectionFault, ErrorCode, Setting, frame, read_settings, unpadded
from tests.ext_proc.http2.peer import frames_of


@pytest.mark.parametrize("size", [0, 1, 255, 65535, 65536, 2**24 - 1])
def test_a_frame_carries_its_payload_whatever_its_length(size: int) -> None:
    assert frames_of(frame(frames.DATA, 1, 7, bytes(size))) == [(frames.DATA, 1, 7, bytes(size))]


def test_settings_are_read_as_they_were_written_of_each_the_last() -> None:
    settings = {Setting.INITIAL_WINDOW_SIZE: 2**31 - 1, Setting.MAX_FRAME_SIZE: 2**14, Setting.ENABLE_PUSH: 0}
    [(kind, flags, stream, payload)] = frames_of(frames.settings_frame(settings))
    assert (kind, flags, stream) == (frames.SETTINGS, 0, 0)
    assert read_settings(payload, 3) == settings
    assert read_settings(payload * 2 + b"\0\5\0\0\x40\1", 7) == settings | {Setting.MAX_FRAME_SIZE: 2**14 + 1}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"12345", ErrorCode.FRAME_SIZE_ERROR),
        (b"\0\2\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (b"\0\4\x80\0\0\0", ErrorCode.FLOW_CONTROL_ERROR),
        (b"\0\5\0\0\x3f\xff", ErrorCode.PROTOCOL_ERROR),
        (b"\0\5\1\0\0\0", ErrorCode.PROTOCOL_ERROR),
        (b"\0\4\x80\0\0\0" + b"\0\4\0\0\0\0", ErrorCode.FLOW_CONTROL_ERROR),
        (b"\0\x99\0\0\0\0" * 65, ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_settings_out_of_range_are_refused(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        read_settings(payload, 64)
    assert caught.value.code is code


def test_padding_is_taken_off() -> None:
    buffer = b"xx\x03dataPPPyy"
    start, end = unpadded(buffer, 2, 10)
    assert buffer[start:end] == b"data"
    assert unpadded(b"\x00", 0, 1) == (1, 1), "no data and no padding"
    assert unpadded(b"\x02PP", 0, 3) == (1, 1), "nothing but padding"


@pytest.mark.parametrize(
    ("buffer", "code"),
    [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\x01", ErrorCode.PROTOCOL_ERROR), (b"\x05abcd", ErrorCode.PROTOCOL_ERROR)],
)
def test_padding_that_is_longer_than_its_frame_is_refused(buffer: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        unpadded(buffer, 0, len(buffer))
    assert caught.value.code is code
