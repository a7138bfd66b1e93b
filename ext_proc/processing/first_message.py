"""The first message of most streams, read in one pass: what protobuf reads in three times as long.

Most calls are this one message. It has the headers of the request and how bodies come, and nothing else; what has
more, or is written otherwise than Envoy does, is left to `request.parse`.
"""

from typing import Final

# Tags, as they stand before each field.
_REQUEST_HEADERS: Final = 0x12  # ProcessingRequest.request_headers
_METADATA_CONTEXT: Final = 0x42  # ProcessingRequest.metadata_context, which we do not ask for
_PROTOCOL_CONFIG: Final = 0x5A  # ProcessingRequest.protocol_config
_HEADER_MAP: Final = 0x0A  # HttpHeaders.headers
_END_OF_STREAM: Final = 0x18  # HttpHeaders.end_of_stream
_HEADER: Final = 0x0A  # HeaderMap.headers
_KEY: Final = 0x0A  # HeaderValue.key
_RAW_VALUE: Final = 0x1A  # HeaderValue.raw_value
_REQUEST_BODY_MODE: Final = 0x08  # ProtocolConfiguration.request_body_mode
_RESPONSE_BODY_MODE: Final = 0x10  # ProtocolConfiguration.response_body_mode


def read(data: bytes) -> tuple[dict[str, str], bool, int] | None:
    """The headers of a request by name (latin-1), whether it ends with them, and the number of the mode of its body.

    None: to be read by `request.parse`, which also says what is wrong with it.
    """
    try:
        return _read(data)
    except IndexError:
        return None


def _read(data: bytes) -> tuple[dict[str, str], bool, int] | None:
    end = len(data)
    if data[0] != _REQUEST_HEADERS:
        return None
    size, at = _size(data, 1)
    if (after := at + size) > end or data[at] != _HEADER_MAP:
        return None
    size, at = _size(data, at + 1)
    last = at + size
    if last > after:
        return None
    headers = _headers(data, at, last)
    if headers is None:
        return None
    ended = False
    if last < after:
        if after - last != 2 or data[last] != _END_OF_STREAM or data[last + 1] != 1:
            return None
        ended = True
    if after < end and data[after] == _METADATA_CONTEXT:
        size, at = _size(data, after + 1)
        after = at + size
    if after == end:
        return headers, ended, 0
    if data[after] != _PROTOCOL_CONFIG or after + 2 + data[after + 1] != end:
        return None
    mode, at = 0, after + 2
    if at < end and data[at] == _REQUEST_BODY_MODE:
        mode, at = data[at + 1], at + 2
    if at < end and data[at] == _RESPONSE_BODY_MODE and data[at + 1] < 0x80:
        at += 2
    return (headers, ended, mode) if at == end and mode < 0x80 else None


def _headers(data: bytes, at: int, end: int) -> dict[str, str] | None:
    """The header map that stands there. None where a name is repeated, too."""
    text = data.decode("latin-1")
    headers: dict[str, str] = {}
    count = 0
    while at < end:
        if data[at] != _HEADER:
            return None
        size, at = _size(data, at + 1)
        after = at + size
        if after > end or data[at] != _KEY:
            return None
        size, at = _size(data, at + 1)
        value = at + size
        if value > after:
            return None
        name = text[at:value]
        if not name.isascii():
            return None
        if value == after:
            headers[name] = ""
        else:
            if data[value] != _RAW_VALUE:
                return None
            size, at = _size(data, value + 1)
            if at + size != after:
                return None
            headers[name] = text[at:after]
        at = after
        count += 1
    return headers if len(headers) == count else None


def _size(data: bytes, at: int) -> tuple[int, int]:
    """The length that stands there, and where its field begins. One of over three bytes raises IndexError."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    more = data[at + 1]
    if more < 0x80:
        return byte & 0x7F | more << 7, at + 2
    most = data[at + 2]
    if most < 0x80:
        return byte & 0x7F | (more & 0x7F) << 7 | most << 14, at + 3
    raise IndexError
