"""The configuration: any text, and the plans of calls over any section of models that it takes."""

import yaml

from ext_proc.broker.deadline import CallOptions
from ext_proc.config import parse
from ext_proc.errors import CallError, ConfigError
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

NAMES = ("bert", "svm", "both", "m 1", "é")
CANDIDATES = (
    "svm;est=25", "bert;version=3;w=9", "both", "(svm;est=1 bert;w=2);mix=avg", "(both);mix=max", "svm;label=stable",
    "%\"m%c3%a9\"", "\"m 1\"",
)  # fmt: skip


def run(data: bytes) -> None:
    reader = Reader(data)
    text = reader.rest().decode(errors="replace") if reader.flag() else yaml.safe_dump(_sections(reader))
    try:
        config = parse(text, "tbms.yaml")
    except ConfigError:
        return
    router = Router(config.routing, CacheMap(), LoadWaits())
    router.update(node.node() for node in config.nodes)
    for model in (*list(config.models)[:10], "other"):
        for verb in (Verb.PREDICT, Verb.STATUS):
            try:
                plan = config.model_table.plan(Call(InferenceProtocol.TFS_REST, verb, model), CallOptions(), len(data))
            except CallError:
                continue
            if plan is not None:
                assert 0 < len(list(plan.calls())) <= config.broker.max_candidates
                assert plan.limit_ms <= config.broker.max_limit_ms
        router.expected_wait(model, 1.0, "rest")


def _sections(reader: Reader) -> dict[str, object]:
    """A configuration that is nearly one: nodes, and models that lead to each other."""
    models: dict[str, dict[str, object]] = {}
    nodes: list[dict[str, object]] = []
    while reader and len(models) + len(nodes) < 20:
        if reader.number(7) == 0:
            nodes.append({"id": reader.text() or "a", "rest": f"10.0.0.{len(nodes)}:{reader.number(9000)}"})
            continue
        model = models.setdefault(reader.pick(NAMES), {})
        for _ in range(reader.number(3) + 1):
            key = reader.pick(("alias", "split", "virtual", "backups", "limit_ms", "labels", "shadow", "estimate_ms"))
            told = reader.pick((*CANDIDATES, None)) or reader.text()
            if key in ("split", "virtual", "backups"):
                model[key] = [told, *(reader.pick(CANDIDATES) for _ in range(reader.number(9)))]
            elif key in ("limit_ms", "estimate_ms"):
                model[key] = reader.number(100_000)
            else:
                model[key] = {"labels": {told: 3}, "shadow": {"to": told, "share": 0.5}}.get(key, told)
    return {"models": models, "nodes": nodes, "routing": {"replicas": reader.number(70)}}


TARGET = Target(
    run,
    (
        b'\1nodes:\n  - {id: a, grpc: "10.0.0.1:1", models: [bert]}\n'
        b"models: {bert: {limit_ms: 5, backups: [svm;est=2]}}",
        b"\0" + bytes(range(1, 120)),
        b"\1models:\n  a: {split: [b;w=1, c;w=2]}\n  b: {alias: a;label=x}\n",
    ),
    (
        b"models:",
        b"{alias: ",
        b"split: [",
        b"virtual: [",
        b"a;w=1",
        b"&a ",
        b"*a",
        b"<<: ",
        b"nodes:",
        b"!!",
        b"\n  - ",
    ),
    longest=1024,
)
