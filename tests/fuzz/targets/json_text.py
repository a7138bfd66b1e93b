"""JSON as RapidJSON reads and prints it."""

from mesh.model_server import rapidjson
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    reader = Reader(data)
    stop, text = reader.flag(), reader.rest()
    try:
        value = rapidjson.parse(text, stop_when_done=stop)
    except rapidjson.JsonError as error:
        if not 0 <= error.offset <= len(text):
            raise AssertionError(error.offset) from error
        return
    printed = rapidjson.encode(rapidjson.pretty(value))
    assert rapidjson.encode(rapidjson.pretty(rapidjson.parse(printed))) == printed
    rapidjson.encode(rapidjson.pretty_start(value, 256))


WORDS = (
    b'"', b"\\u", b"\\ud83d", b"\\ude00", b"[", b"]", b"{", b"}", b":", b",", b"-", b"1", b"1e5", b"1.5", b"NaN",
    b"Inf", b"-Infinity", b"true", b"null", b"\xef\xbb\xbf", b"\xff", b"\0", b" ", b'"a":', b"[[", b"]]", b"\\",
)  # fmt: skip
TARGET = Target(
    run,
    (
        b'\0{"instances": [[1, 2.5], [-3e7, NaN]], "a": "\\u00e9\\ud83d\\ude00"}',
        b"\1[Inf, -Infinity] x",
        b'\0\xef\xbb\xbf"\xff"',
    ),
    WORDS,
)
