"""Every field of the V2 requests with values of every kind: calls for a real Triton and the embedded server alike.

A field's calls are a dict: what is in the field -> the call. Left out on purpose are sizes in a shape that no request's
data could fill, and the extensions that the embedded server refuses by name (decision 040).
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from tests.integration.parity.row import Http, Row
from tests.integration.parity.rows.triton_calls import (
    GOOD,
    PAIR,
    TEXT,
    TINY,
    URL,
    I,
    S,
    as_triton,
    infer,
    output,
    post,
    tensor,
    without,
)
from tests.integration.parity.rows.words import X, as_json, v2

Calls = dict[str, Http]

KINDS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 2**63, 2**64, "", "a", "1", [], ["a"], {}, {"a": 1},
)  # fmt: skip


def each(values: Iterable[Any], make: Callable[[Any], Http]) -> Calls:
    return {json.dumps(value): make(value) for value in values}


def unlike(*refused: Any) -> list[Any]:
    """The kinds but those (1 and True are not the same here)."""
    return [kind for kind in KINDS if not any(kind == value and type(kind) is type(value) for value in refused)]


def parameter(name: str) -> Callable[[Any], Http]:
    return lambda value: post(parameters={name: value})


def of_output(**parameters: Any) -> Http:
    return post(outputs=[{"name": "y", "parameters": parameters}])


def of_input(declared: dict[str, Any], **parameters: Any) -> Http:
    return post({**declared, "parameters": parameters})


def with_pair(declared: dict[str, Any]) -> Http:
    """An input whose 8 bytes follow the JSON."""
    head = as_json({"inputs": [{**declared, "parameters": {"binary_data_size": len(PAIR)}}]})
    return Http("POST", URL, head + PAIR, {"Inference-Header-Content-Length": str(len(head))})


def literally(text: str) -> Http:
    """A body that Python's encoder would not write; X stands for a good input."""
    return Http("POST", URL, text.replace("X", json.dumps(X)).encode())


BARE = without("data")
UINT8, BOOL, TEXTS_OF_TRITON = "/v2/models/byte/infer", "/v2/models/flag/infer", ("TYPE_FP32", "fp32", "Fp32", "FP32 ")

REST_FIELDS: dict[str, Calls] = {
    "id": each([*KINDS, 'é\u0001"\\/', "a" * 3000], lambda value: post(id=value)),
    "parameters": each(KINDS, lambda value: post(parameters=value)),
    **{
        f"parameter {name}": each(KINDS, parameter(name))
        for name in (
            "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output", "custom",
            "headers", "triton", "triton_", "triton_other", "triton_enable_empty_final_response",
        )
    },
    "inputs": each(KINDS, lambda value: Http("POST", URL, as_json({"inputs": value}))),
    "an input": each(KINDS, lambda value: Http("POST", URL, as_json({"inputs": [value]}))),
    **{f"input's {key}": each(KINDS, lambda value, key=key: post({**X, key: value})) for key in (*X, "parameters")},
    "input's datatype by name": each(
        (*TEXTS_OF_TRITON, "BF16", "FP64", "INT64", "BYTES", "<invalid>"), lambda value: post({**X, "datatype": value})
    ),
    "size in a shape": each(unlike(2**63), lambda value: post({**X, "shape": [1, value]})),
    "datum": each(unlike(2**63, 2**64), lambda value: post({**X, "data": [1, value]})),
    "datum of INT8": each(
        (*KINDS, 127, 128, -129, 2**31, 2**32), lambda value: post({**I, "data": [1, value]}, path=TINY)
    ),
    "datum of UINT8": each(
        (*KINDS, 255, 256, 2**32), lambda value: post({**I, "datatype": "UINT8", "data": [1, value]}, path=UINT8)
    ),
    "datum of BOOL": each(KINDS, lambda value: post({**I, "datatype": "BOOL", "data": [True, value]}, path=BOOL)),
    "datum of BYTES": each(KINDS, lambda value: post({**S, "data": ["a", value]}, path=TEXT)),
    "nested data": each(
        (
            [[1], 2], [1, [2]], [[1], [2]], [[[1]], [2]], [[1, 2], []], [[1], []], [[], []], [[1, 2, 3]], [[1, 2], [3]],
        ),
        lambda value: post({**X, "data": value}),
    ),
    "nested data of BYTES": each(
        ([["a"], "b"], [["a", "b"], []], [[["a"]], ["b"]], [[], []]),
        lambda value: post({**S, "data": value}, path=TEXT),
    ),
    **{
        f"data of {what}": each(
            ([], [1], "a", None, [[1, 2]], ["a"]), lambda value, given=given: post({**given, "data": value})
        )
        for what, given in {
            "no rows": {**X, "shape": [0, 2]},
            "no columns": {**X, "shape": [1, 0]},
            "no dimensions": {**X, "shape": []},
            "FP16": {**X, "datatype": "FP16"},
            "BF16": {**X, "datatype": "BF16"},
            "INT32": {**X, "datatype": "INT32"},
            "no known type": {**X, "datatype": "nope"},
            "no rows, FP16": {**X, "datatype": "FP16", "shape": [0, 2]},
            "no rows, BF16": {**X, "datatype": "BF16", "shape": [0, 2]},
            "no rows, no known type": {**X, "datatype": "nope", "shape": [0, 2]},
        }.items()
    },
    "data of no strings": each(
        ([], ["a"], "a", [1], ["a", "b"]), lambda value: post({**S, "shape": [0], "data": value}, path=TEXT)
    ),
    "data of a string without dimensions": each(
        ([], ["a"], "a", [1]), lambda value: post({**S, "shape": [], "data": value}, path=TEXT)
    ),
    **{
        f"input's parameter {name}": each(KINDS, lambda value, name=name: of_input(X, **{name: value}))
        for name in (
            "binary_data_size", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset",
            "binary_data", "classification", "custom", "triton_other",
        )
    },
    **{
        f"only source of data {name}": each((*KINDS, 8), lambda value, name=name: of_input(BARE, **{name: value}))
        for name in ("binary_data_size", "shared_memory_region")
    },
    **{
        f"{name} of a region": each(
            (*KINDS, 8), lambda value, name=name: of_input(BARE, shared_memory_region="r", **{name: value})
        )
        for name in ("shared_memory_byte_size", "shared_memory_offset")
    },
    "binary data": {
        **{kind: with_pair({**BARE, "datatype": kind}) for kind in ("FP16", "BF16", "INT32", "nope", "fp32", "")},
        "no rows": with_pair({**BARE, "shape": [0, 2]}),
        "no dimensions": with_pair({**BARE, "shape": []}),
        "no rows, none there": of_input({**BARE, "shape": [0, 2]}, binary_data_size=8),
    },
    "outputs": each(KINDS, lambda value: post(outputs=value)),
    "an output": each(KINDS, lambda value: post(outputs=[value])),
    "output's name": each(KINDS, lambda value: post(outputs=[{"name": value}])),
    "output's parameters": each(KINDS, lambda value: post(outputs=[{"name": "y", "parameters": value}])),
    "output's parameter classification": each(
        unlike(1, 2**63), lambda value: of_output(classification=value)
    ),
    **{
        f"output's parameter {name}": each(KINDS, lambda value, name=name: of_output(**{name: value}))
        for name in (
            "binary_data", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "custom",
            "triton_other", "binary_data_size",
        )
    },
    **{
        f"output's {name} of a region": each(
            KINDS, lambda value, name=name: of_output(shared_memory_region="r", **{name: value})
        )
        for name in ("shared_memory_byte_size", "shared_memory_offset", "binary_data", "classification")
    },
    "binary outputs": {
        "all, and one named": post(parameters={"binary_data_output": True}, outputs=[{"name": "y"}]),
        "all, and an empty list": post(parameters={"binary_data_output": True}, outputs=[]),
        "all, and one not": post(
            parameters={"binary_data_output": True}, outputs=[{"name": "y", "parameters": {"binary_data": False}}]
        ),
        "the first of two": post(outputs=[{"name": "y", "parameters": {"binary_data": True}}, {"name": "y"}]),
        "the second of two": post(outputs=[{"name": "y"}, {"name": "y", "parameters": {"binary_data": True}}]),
        "classes of the second": post(outputs=[{"name": "y"}, {"name": "y", "parameters": {"classification": 1}}]),
    },
    "unknown members": {
        "everywhere": post({**X, "more": 1}, more=[1], model_name="other", outputs=[{"name": "y", "more": None}]),
    },
    "members given twice": {
        text: literally(text)
        for text in (
            '{"id":"a","id":"b","inputs":[X]}',
            '{"id":1,"id":"b","inputs":[X]}',
            '{"inputs":[],"inputs":[X]}',
            '{"parameters":{"timeout":1,"timeout":"a"},"inputs":[X]}',
            '{"parameters":{"timeout":"a","timeout":1},"inputs":[X]}',
            '{"inputs":[{"name":"x","name":1,"shape":[1,2],"datatype":"FP32","data":[1,2],"data":[3,4]}]}',
        )
    },
    "two faults": {
        "id, parameters": post(id=1, parameters=[]),
        "id, no inputs": Http("POST", URL, as_json({"id": 1})),
        "parameters, no inputs": Http("POST", URL, as_json({"parameters": []})),
        "parameters, outputs": post(parameters=[], outputs=1),
        "timeout, custom": post(parameters={"timeout": "a", "custom": None}),
        "custom, timeout": post(parameters={"custom": None, "timeout": "a"}),
        "input's name, outputs": post({**X, "name": 1}, outputs=1),
        "input's data, outputs": post({**X, "data": 1}, outputs=1),
        "input's data, another's name": post({**X, "data": 1}, {**X, "name": 1}),
        "input's name, datatype": post({**X, "name": 1, "datatype": 1, "shape": 1, "data": 1}),
        "input's datatype, shape": post({**X, "datatype": 1, "shape": 1, "data": 1}),
        "input's shape, data": post({**X, "shape": 1, "data": 1}),
        "input's shape, unknown datatype": post({**X, "datatype": "nope", "shape": 1}),
        "input's data, unknown datatype": post({**X, "datatype": "nope", "data": 1}),
        "input's offset, data": of_input({**X, "data": 1}, shared_memory_offset="a"),
        "input's offset, shape": of_input({**X, "shape": 1}, shared_memory_offset="a"),
        "input's offset, unknown datatype": of_input({**X, "datatype": "nope"}, shared_memory_offset="a"),
        "input's binary size, offset": of_input(BARE, binary_data_size="x", shared_memory_offset="a"),
        "input's binary size, shape": of_input({**BARE, "shape": 1}, binary_data_size="x"),
        "input's binary size, unknown datatype": of_input({**BARE, "datatype": "nope"}, binary_data_size="x"),
        "input's region, name": of_input({**BARE, "name": 1}, shared_memory_region="r"),
        "input's region, unknown datatype": of_input({**BARE, "datatype": "nope"}, shared_memory_region="r"),
        "input's region, offset": of_input(BARE, shared_memory_region=1, shared_memory_offset="a"),
        "input's region, binary size": of_input(BARE, shared_memory_region="r", binary_data_size=8),
        "input's region, binary size, data": of_input(X, shared_memory_region="r", binary_data_size=8),
        "input twice, data": post(X, {**X, "data": 1}),
        "input twice, datatype": post(X, {**X, "datatype": "nope"}),
        "input twice, outputs": post(X, X, outputs=1),
        "input unknown, outputs": post({**X, "name": "w"}, outputs=1),
        "input unknown, output unknown": post({**X, "name": "w"}, outputs=[{"name": "z"}]),
        "output unknown, another's name": post(outputs=[{"name": "z"}, {"name": 1}]),
        "output unknown, another's classes": post(
            outputs=[{"name": "z"}, {"name": "y", "parameters": {"classification": "a"}}]
        ),
        "output unknown, region": post(outputs=[{"name": "z", "parameters": {"shared_memory_region": "r"}}]),
        "output's classes, binary": of_output(classification="c", binary_data=1),
        "output's classes, size": of_output(classification="c", shared_memory_byte_size="b"),
        "output's offset, size": of_output(shared_memory_offset="a", shared_memory_byte_size="b", binary_data=1),
        "output's region, binary": of_output(shared_memory_region=1, binary_data=1),
        "output's region, offset": of_output(shared_memory_region=1, shared_memory_offset="a"),
        "output's region and offset, binary": of_output(
            shared_memory_region="r", shared_memory_offset="a", binary_data=True
        ),
        "version, id": post(path="/v2/models/double/versions/9/infer", id=1),
    },
    "index": each(KINDS, lambda value: Http("POST", "/v2/repository/index", as_json(value))),
    "index's ready": each(KINDS, lambda value: Http("POST", "/v2/repository/index", as_json({"ready": value}))),
    **{
        f"{action}'s parameters": each(
            unlike({"a": 1}) if action == "load" else KINDS,
            lambda value, action=action: Http(
                "POST", f"/v2/repository/models/nope/{action}", as_json({"parameters": value})
            ),
        )
        for action in ("load", "unload")
    },
    "load's config": each(
        unlike("", "a", "1"),
        lambda value: Http("POST", "/v2/repository/models/nope/load", as_json({"parameters": {"config": value}})),
    ),
    "unload's body": {
        "cut": Http("POST", "/v2/repository/models/nope/unload", b"{"),
        "unload_dependents": Http(
            "POST", "/v2/repository/models/nope/unload", as_json({"parameters": {"unload_dependents": 1}})
        ),
    },
}  # fmt: skip


P = pb.InferParameter
CHOICES = {
    "none": P(),
    "bool": P(bool_param=True),
    "int64": P(int64_param=5),
    "negative": P(int64_param=-1),
    "zero": P(int64_param=0),
    "string": P(string_param="a"),
    "empty": P(string_param=""),
    "double": P(double_param=1.5),
    "uint64": P(uint64_param=5),
}
MP = pb.ModelRepositoryParameter
REPOSITORY_CHOICES = {
    "none": MP(),
    "bool": MP(bool_param=True),
    "int64": MP(int64_param=5),
    "string": MP(string_param="a"),
    "bytes": MP(bytes_param=b"a"),
}


def having(message: Any, **parameters: str) -> Any:
    """The message, with these of CHOICES for its parameters."""
    for name, choice in parameters.items():
        message.parameters[name].CopyFrom(CHOICES[choice])
    return message


def asking(*outputs: pb.ModelInferRequest.InferRequestedOutputTensor) -> Message:
    return infer("double", GOOD, outputs=outputs)


def chosen(make: Callable[[str], Message], without: frozenset[str] = frozenset()) -> dict[str, Message]:
    return {choice: make(choice) for choice in CHOICES if choice not in without}


def repository(make: type[Message], name: str, *choices: str) -> dict[str, Message]:
    calls: dict[str, Message] = {}
    for choice in choices or REPOSITORY_CHOICES:
        request: Any = make(model_name="nope")
        request.parameters[name].CopyFrom(REPOSITORY_CHOICES[choice])
        calls[choice] = request
    return calls


SHARED = {"shared_memory_region": "string", "shared_memory_byte_size": "int64"}
OF_TENSORS = (
    "shared_memory_region",
    "shared_memory_byte_size",
    "shared_memory_offset",
    "binary_data",
    "custom",
    "triton_other",
)

#: method -> field -> what is in it -> the request
GRPC_FIELDS: dict[str, dict[str, dict[str, Message]]] = {
    "ModelInfer": {
        **{
            f"parameter {name}": chosen(lambda choice, name=name: having(infer("double", GOOD), **{name: choice}))
            for name in (
                "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output", "custom",
                "headers", "classification", "triton", "triton_", "triton_other", "triton_enable_empty_final_response",
            )
        },
        **{
            f"input's parameter {name}": {
                f"{choice}, {kind}": infer(
                    "double", having(tensor(**contents), **{name: choice}), raw_input_contents=raw
                )
                for choice in CHOICES
                for kind, contents, raw in (("typed", {"fp32": [1, 2]}, []), ("raw", {}, [PAIR]), ("nothing", {}, []))
            }
            for name in (*OF_TENSORS, "classification")
        },
        **{
            f"output's parameter {name}": chosen(
                lambda choice, name=name: asking(having(output("y"), **{name: choice}))
            )
            for name in OF_TENSORS
        },
        "output's parameter classification": chosen(
            lambda choice: asking(having(output("y"), classification=choice)), frozenset({"int64"})
        ),
        **{
            f"{name} of a region": {
                **{
                    f"input's {choice}": infer("double", having(tensor(), **{**SHARED, name: choice}))
                    for choice in CHOICES
                },
                **{
                    f"output's {choice}": asking(having(output("y"), **{**SHARED, name: choice})) for choice in CHOICES
                },
            }
            for name in ("shared_memory_byte_size", "shared_memory_offset")
        },
        "region": {
            "input's, without a size": infer("double", having(tensor(), shared_memory_region="string")),
            "input's, typed": infer("double", having(tensor(fp32=[1, 2]), **SHARED)),
            "input's, raw": infer("double", having(tensor(), **SHARED), raw_input_contents=[PAIR]),
            "output's, without a size": asking(having(output("y"), shared_memory_region="string")),
            "output's, and classes": asking(having(output("y"), **SHARED, classification="int64")),
            "output's, and wrong classes": asking(having(output("y"), **SHARED, classification="string")),
            "output's, unknown": asking(having(output("z"), **SHARED)),
        },
        "shape": {str(shape): infer("double", tensor(shape=shape), raw_input_contents=[PAIR]) for shape in ((), (3,))},
        "datatype": {
            kind: infer("double", tensor(datatype=kind), raw_input_contents=[PAIR])
            for kind in ("", "fp32", "BF16", "Fp32", "<invalid>")
        },
        "name": {
            **{f"input {name}": infer("double", tensor(name, fp32=[1, 2])) for name in ("", "é")},
            **{f"output {name}": asking(output(name)) for name in ("", "é")},
        },
        "two faults": {
            "parameter, output": having(asking(output("z")), triton_x="int64"),
            "parameter, input": having(infer("double", tensor("w")), triton_x="int64"),
            "parameter, input twice": having(infer("double", GOOD, GOOD), triton_x="int64"),
            "parameter, version": having(infer("double", GOOD, model_version="9"), triton_x="int64"),
            "input twice, no data": infer("double", tensor(), tensor()),
            "input twice, output": infer("double", GOOD, GOOD, outputs=[output("z")]),
            "no data, a region": infer("double", tensor("a"), having(tensor("b"), shared_memory_region="int64")),
            "a region, no data": infer("double", having(tensor("b"), shared_memory_region="int64"), tensor("a")),
            "classes, input unknown": infer(
                "double", tensor("w", fp32=[1, 2]), outputs=[having(output("y"), classification="string")]
            ),
            "classes, no data": infer("double", tensor(), outputs=[having(output("y"), classification="string")]),
            "classes, another unknown": asking(having(output("y"), classification="string"), output("z")),
            "classes, unknown": asking(having(output("z"), classification="string")),
            "region, another's classes": asking(
                having(output("y"), **SHARED), having(output("y"), classification="string")
            ),
            "classes, another's region": asking(
                having(output("y"), classification="string"), having(output("y"), **SHARED)
            ),
        },
    },
    "RepositoryModelLoad": {
        "config": repository(pb.RepositoryModelLoadRequest, "config", "none", "bool", "int64", "bytes"),
        "file:": repository(pb.RepositoryModelLoadRequest, "file:1/model", "none", "bool", "int64", "string"),
        "custom": repository(pb.RepositoryModelLoadRequest, "custom"),
    },
    "RepositoryModelUnload": {
        "unload_dependents": repository(pb.RepositoryModelUnloadRequest, "unload_dependents"),
        "custom": repository(pb.RepositoryModelUnloadRequest, "custom"),
    },
}  # fmt: skip


#: Swept over one version of HTTP: what a field means is none of its business.
SWEEPS: dict[str, tuple[Row, ...]] = {
    **{
        f"REST: {name}": tuple(as_triton(f"{name}: {what}", call, ("1.1",)) for what, call in calls.items())
        for name, calls in REST_FIELDS.items()
    },
    **{
        f"{method}: {name}": tuple(
            as_triton(f"{method}, {name}: {what}", v2(method, request)) for what, request in requests.items()
        )
        for method, fields in GRPC_FIELDS.items()
        for name, requests in fields.items()
    },
}
