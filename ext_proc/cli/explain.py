"""`tbms explain`: which way a call would go, and why, as the process itself says. The call is not made."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from ext_proc.admin.explanation import (
    CallToExplain,
    EdgeExplanation,
    Explanation,
    NodeExplanation,
    RankExplanation,
)
from ext_proc.cli.admin_client import ports
from ext_proc.cli.output import plain, print_json, share, table
from ext_proc.envoy_config.parts.versions import short
from ext_proc.errors import CallError, TbmsError
from ext_proc.wire.content_type import is_grpc
from ext_proc.wire.naming import Unnamed, is_method, name_call, write_model
from mesh.near_names import near_names
from mesh.system_words import system_words

_MOST_FILE = 128 << 20
_HEAD = re.compile(rb"\r?\n\r?\n")
_METHODS = {
    "Predict": "/tensorflow.serving.PredictionService/Predict",
    "Classify": "/tensorflow.serving.PredictionService/Classify",
    "Regress": "/tensorflow.serving.PredictionService/Regress",
    "GetModelMetadata": "/tensorflow.serving.PredictionService/GetModelMetadata",
    "GetModelStatus": "/tensorflow.serving.ModelService/GetModelStatus",
    "Infer": "/inference.GRPCInferenceService/ModelInfer",
    "ModelInfer": "/inference.GRPCInferenceService/ModelInfer",
}
"""By their last words; any case will do."""


async def show(out: Console, call: CallToExplain, admins: Sequence[str], *, as_json: bool = False) -> None:
    """Asks the first of these ports, and prints what it says. Raises TbmsError."""
    async with ports(admins) as found:
        told = await found[0].explain(call)
        names: set[str] = set()
        if told["role"] == "edge" and not as_json and not any(node["state"] != "absent" for node in told["nodes"]):
            status = await found[0].status()
            names = set(status["models"]) if status["role"] == "edge" else names
    if as_json:
        print_json(out, told)
        return
    for line in _lines(told):
        out.print(plain(line))
    if told["role"] == "edge" and told["nodes"]:
        out.print(_nodes_table(told))
    if (
        told["role"] == "edge"
        and told["call"] is not None
        and told["goes_to"] not in names
        and (near := near_names(told["call"]["model"], names))
    ):
        out.print(plain(f"No node is known to hold {told['goes_to'] or told['call']['model']}. {near}"))


def call_of(
    target: str | None,
    request: Path | None,
    headers: Sequence[str],
    model: str | None,
    method: str | None,
    envoy: str | None,
) -> CallToExplain:
    """The call that the command line tells: a path, a gRPC method (whole, or Predict and the like), or a file.

    `headers` are `name: value`. Raises TbmsError.
    """
    if (target is None) == (request is None):
        raise TbmsError("Say which call: a path such as /v1/models/resnet:predict, a gRPC method, or --request FILE.")
    call = _recorded(request) if request is not None else _of_target(target or "")
    told = dict(call.get("headers", {}))
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise TbmsError(f"--header: 'name: value' was expected (found {text!a})")
        key = name.strip().lower()
        told[key] = f"{told[key]}, {value.strip()}" if key in told else value.strip()
    if is_method(call["path"]):
        told.setdefault("content-type", "application/grpc")
    if told:
        call["headers"] = told
    if model is not None:
        call["model"] = _written(model)
    if method is not None:
        call["method"] = method.upper()
    if envoy is not None:
        call["envoy"] = short(envoy)
    if is_method(call["path"]) and "model" not in call and "x-tbms-model" not in told:
        raise TbmsError(f"{call['path']}: the message of such a call names its model; say which one with --model.")
    return call


def _of_target(target: str) -> CallToExplain:
    if target.startswith("/"):
        return {"path": target}
    if is_method(f"/{target}"):  # as grpcurl has it
        return {"path": f"/{target}"}
    path = {name.lower(): path for name, path in _METHODS.items()}.get(target.lower())
    if path is None:
        near = near_names(target, _METHODS)
        raise TbmsError(f"{target!a} is neither a path, which begins with a slash, nor a gRPC method. {near}".rstrip())
    return {"path": path}


def _written(model: str) -> str:
    """`m`, `m/versions/3` or `m/labels/stable`, as `x-tbms-model` has it."""
    name, *rest = model.split("/")
    match rest:
        case []:
            return write_model(name)
        case ["versions", version]:
            return write_model(name, version)
        case ["labels", label]:
            return write_model(name, None, label)
    raise TbmsError(f"--model: {model!a} is not MODEL, MODEL/versions/N or MODEL/labels/LABEL")


def _recorded(file: Path) -> CallToExplain:
    """A request as text, as `curl --trace` or a proxy writes it: request line, headers, an empty line, the body.

    Of a gRPC call the body tells the model. Raises TbmsError.
    """
    try:
        if file.stat().st_size > _MOST_FILE:
            raise TbmsError(f"{file}: it is larger than {_MOST_FILE} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise TbmsError(f"{file}: cannot be read: {system_words(error)}") from None
    end = _HEAD.search(data)
    head, body = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    first, *lines = head.decode("latin-1").splitlines() or [""]
    method, _, rest = first.partition(" ")
    path = rest.partition(" ")[0]
    if not method.isalpha() or not path.startswith("/"):
        raise TbmsError(f"{file}: line 1: 'POST /path' was expected (found {first[:60]!a})")
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise TbmsError(f"{file}: line {number}: 'name: value' was expected (found {line[:60]!a})")
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    call: CallToExplain = {"path": path, "method": method.upper(), "headers": headers}
    if body and is_grpc(headers.get("content-type", "")):
        _name_by(call, headers, body, file)
    return call


def _name_by(call: CallToExplain, headers: dict[str, str], body: bytes, file: Path) -> None:
    try:
        unnamed = name_call({**headers, ":path": call["path"]}, _MOST_FILE)
        if not isinstance(unnamed, Unnamed):
            return
        named = unnamed.feed(body, True)
        while named is None and unnamed.waits:
            named = unnamed.go_on()
    except CallError as error:
        raise TbmsError(f"{file}: {error}") from None
    if named is not None:
        call["model"] = write_model(named.model, named.version, named.label)


def _lines(told: Explanation) -> Iterator[str]:
    ground = f" ({told['ground']})" if told["role"] == "edge" and told["ground"] else ""
    yield f"way: {told['way']}{ground}"
    yield f"why: {told['why']}"
    if (refusal := told["refusal"]) is not None:
        yield f"answer: {refusal['http']}, over gRPC {refusal['grpc']}"
    if (call := told["call"]) is not None:
        which = f" version {call['version']}" if call["version"] else f" label {call['label']}" if call["label"] else ""
        yield f"call: {call['verb']} of {call['model']}{which} over {call['protocol']}"
    yield from _edge(told) if told["role"] == "edge" else _node(told)


def _edge(told: EdgeExplanation) -> Iterator[str]:
    for step in told["names"]:
        among = (
            " of " + ", ".join(f"{to} w={weight:g}" for to, weight in step["among"].items()) if step["among"] else ""
        )
        yield f"name: {step['name']} -> {step['leads_to']} ({step['kind']}{among})"
    if told["goes_to"] is not None:
        yield f"model: {told['goes_to']}"
    if told["session_node"] is not None:
        yield f"session: on {told['session_node']}"
    for each in told["map"]["shares"] if told["map"] is not None else ():
        yield f"map: {share(each['share'])} of such calls go to {each['nodes'][0]}"
    if told["limit_ms"] is not None:
        yield f"race: limit {told['limit_ms']:g} ms, answer {told['answer']}"
        for number, rank in enumerate(told["ranks"]):
            yield f"  {number}: starts at {rank['starts_ms']:g} ms: {_rank(rank)}"
    if told["shadows"]:
        yield f"copied to: {', '.join(told['shadows'])}"


def _rank(rank: RankExplanation) -> str:
    told = [
        f"{one['model']} on {one['node'] or 'no node'}, {'measured' if one['live'] else 'expected'} "
        f"{one['estimate_ms']:.4g} ms{' with its load' if one['cold'] else ''}"
        for one in rank["candidates"]
    ]
    return " + ".join(told) if rank["mix"] is None else f"{rank['mix']} of {' + '.join(told)}"


def _nodes_table(told: EdgeExplanation) -> object:
    rows = [
        (
            {None: "", 0: "first"}.get(node["place"], "retry"),
            node["id"],
            node["address"] or "",
            f"{node['load']:g}",
            "" if node["load_seconds"] is None else f"{node['load_seconds']:.2g} s",
            node["why"],
        )
        for node in told["nodes"]
    ]
    return table(("asked", "node", "address", "load", "load time", "why"), rows, right=("load", "load time"))


def _node(told: NodeExplanation) -> Iterator[str]:
    if told["residency"] is not None:
        leaving = "; the node is about to leave" if told["leaving"] else ""
        yield f"residency, as edges hear it: {told['residency']}{leaving}"
    if told["resident"] is False:
        seconds = told["load_seconds"]
        yield f"expected wait: {'not known' if seconds is None else f'{seconds:.3g} s'}"
    yield from _versions(told)


def _versions(told: NodeExplanation) -> Iterable[str]:
    for each in told["versions"]:
        pinned = ", pinned" if each["pinned"] else ""
        cause = f": {each['cause']}" if each["cause"] else ""
        yield (
            f"version {each['version']}: {each['state']}{pinned}, {each['in_flight']} leases, "
            f"{each['waiting']} calls wait{cause}"
        )
