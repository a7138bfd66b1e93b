"""What headers ask of the time broker, of a node's patience and of its residency, and the plan that comes of them."""

from typing import Any

from ext_proc.batching.terms import remaining_seconds
from ext_proc.broker.answer_header import answer_header
from ext_proc.broker.deadline import read_options
from ext_proc.broker.effects import Answer, Why
from ext_proc.broker.model_table import ModelTable
from ext_proc.broker.settings import BrokerSettings, ModelSettings
from ext_proc.errors import CallError
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.residency.header import read_word
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

MODELS: dict[str, dict[str, Any]] = {
    "bert": {"limit_ms": 50, "backups": ["svm;est=5"], "labels": {"stable": 3}},
    "prod": {"alias": "bert;label=stable"},
    "both": {"virtual": ["(svm;est=1 bayes;est=1);mix=avg", "bert"]},
    "trial": {"split": ["svm;w=1", "bert;version=2;w=3"]},
}
TABLE = ModelTable(BrokerSettings(), {name: ModelSettings.model_validate(model) for name, model in MODELS.items()})
NAMES = ("tloc", "backup", "primary", "key", "grpc_timeout")
HOP = HopMark("0" * 32)


def run(data: bytes) -> None:
    reader = Reader(data)
    model = reader.pick((*MODELS, "other"))
    given = {name: reader.text() for name in NAMES if reader.flag()}
    word, mark = reader.text(), reader.text()
    HOP.read(mark)
    read_word(word)
    told = {"tloc": given.get("tloc", ""), "grpc-timeout": word, "x-envoy-expected-rq-timeout-ms": mark}
    assert remaining_seconds(told) >= 0
    try:
        options = read_options(**given)
        plan = TABLE.plan(Call(InferenceProtocol.V2_GRPC, Verb.INFER, model), options, len(data))
    except CallError as error:
        if not error.message.isprintable():
            raise AssertionError(error.message) from error
        return
    if plan is not None:
        answer_header(plan, Answer(0, None, Why.PRIMARY, (0,), False, 1.0, 2.0), mark).encode("ascii")


TARGET = Target(
    run,
    (
        b"\0\1\x0c50;est=35;x=1\1\x13svm;est=25, bert;w=\0\0\0",
        b"\2\0\1\x2f" + b'(bayes;est=15 "key search";w=2);mix=avg, svm;v='.ljust(47) + b"\0\0\0\0",
        b"\4\0\0\1\x16(a;est=35 b);mix=max  \1\x07user-17\1\x0250\0\0",
        b"\3\1\x09;;@99999\1\x08@1 , (@1\0\0\0\x11available;leaving",
    ),
    (
        b";est=",
        b";version=",
        b";label=",
        b";w=",
        b"(",
        b");mix=avg",
        b", ",
        b'"',
        b"\\",
        b'%"',
        b"@",
        b"?1",
        b":YQ==:",
        b"priority=",
        b"9" * 15,
        b"1.5",
        b"leaving",
    ),
    longest=1024,
)
