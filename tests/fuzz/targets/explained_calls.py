"""Calls that are explained: any document, any call; what is said is what is then done. And the answers clients read."""

import json

from ext_proc.admin.explanation import read_call
from ext_proc.client import ClientError, read_answer
from ext_proc.errors import TbmsError
from tests.ext_proc.edge.test_explaining import CALLS, Edge
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets.json_text import WORDS

EDGE = Edge()
PATHS = tuple(sorted({path for path, _, _ in CALLS.values()}))
NAMES = ("tloc", "backup", "primary", "tbms-key", "tbms-session", "grpc-timeout", "x-tbms-hop", "content-type")


def run(data: bytes) -> None:
    reader = Reader(data)
    if reader.flag():
        try:
            told = read_answer(reader.rest().decode("latin-1"))
        except ClientError as error:
            str(error).encode(errors="surrogateescape")
        else:
            assert told is not None
        return
    if reader.flag():
        try:
            document = json.loads(reader.rest())
        except (ValueError, RecursionError):
            return
    else:
        document = {"path": reader.pick(PATHS)}
        if reader.flag():
            document["path"] = "/v1/models/" + reader.text()
        if reader.flag():
            document["model"] = reader.text()
        document["headers"] = {name: reader.text() for name in NAMES if reader.flag()}
    try:
        call = read_call(document)
        said = EDGE.role._explainer.explain(call)
    except TbmsError as error:
        str(error).encode(errors="surrogateescape")
        return
    way, _ = EDGE.decided(call["path"], call.get("headers"), **{k: v for k, v in call.items() if k not in _TOLD})
    assert said["way"] == way, (said["why"], way)


_TOLD = ("path", "headers")

TARGET = Target(
    run,
    (
        b"\1svm;rank=1;elapsed=36.2;why=overdue;left=13.8",
        b"\1(a b);rank=0;elapsed=1;why=partial;left=2;mix=avg;partial",
        b'\0\1{"path": "/v1/models/bert:predict", "headers": {"tloc": "50"}, "method": "POST"}',
        b"\0\0\5\0\0\1\x0250\1\x09svm;est=5\0\0\0\0\0\0",
        b"\0\0\5\1\x0cbert:predict\0\0\0\0\1\x01s\0\0\0",
        b"\0\0\0\0\1\x04bert\1\x0250\0\0\0\0\0\0\1\x10application/grpc",
    ),
    (b'"path": "/v1/models/', b'"headers": {', b'"model": "', b";why=", b";rank=", b";mix=avg", b"/versions/3", *WORDS),
    longest=1024,
)
