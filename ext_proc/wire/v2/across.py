"""Calls of V2 over REST that share batches with those over gRPC: where both have their data as raw bytes.

The binary tensor extension of REST and gRPC's raw contents are the same bytes, so nothing is read or written of a
value. What stands around them says the same in both protocols, and is written as Triton writes it. See
docs/decisions/130.
"""

import json
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from ext_proc.errors import CallError
from ext_proc.wire.batch import Member, NotShared, ReplyMismatch, Written
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.json_text import DATA, ID, ROWS, SIZE, Template, unescaped, write_text
from ext_proc.wire.protobuf.fields import len_field, varint
from ext_proc.wire.v2.grpc_batch import GrpcForm, form_of, read_reply
from ext_proc.wire.v2.rest_batch import RestForm
from ext_proc.wire.v2.rest_outputs import HEADER

INFER_PATH = "/inference.GRPCInferenceService/ModelInfer"
BINARY = (("content-type", "application/octet-stream"),)
_DEFAULT, _BINARY = "binary_data_output", "binary_data"


class Apart(StrEnum):
    """Why a call shares batches only with calls of its own protocol. The value is the name used in metrics."""

    PROTOCOL = "protocol"  # TF Serving's, whose REST has no bytes
    JSON_DATA = "json-data"  # inputs in JSON, or outputs asked for in it
    TYPED_CONTENTS = "typed-contents"
    SAYS_MORE = "says-more"  # parameters, or what is unknown here


class Crossing(NamedTuple):
    """A call as one over gRPC: the call, and its member."""

    call: Call
    member: Member


def crossing(call: Call, member: Member) -> Crossing | Apart:
    """The call as one over gRPC that may share batches with those of both protocols.

    Packings that clients take no longer part them: the reply to a batch never comes packed.
    """
    form = member.form
    if isinstance(form, GrpcForm):
        if not form.raw:
            return Apart.TYPED_CONTENTS
        if form.parameters or form.unknown or any(each.parameters or each.unknown for each in form.tensors):
            return Apart.SAYS_MORE
        return Crossing(call, replace(member, common=call))
    if not isinstance(form, RestForm):
        return Apart.PROTOCOL
    crossed = Call(InferenceProtocol.V2_GRPC, Verb.INFER, call.model, call.version)
    found = _remembered(form, call.model, call.version)
    if isinstance(found, Apart):
        return found
    its_id = json.loads(member.id).encode("utf-8", "surrogateescape") if member.id else b""
    return Crossing(crossed, replace(member, common=crossed, form=found, id=its_id))


def rest_reply(message: bytes) -> Written:
    """The reply of Triton's REST API that says what this one of its gRPC API does. Raises ReplyMismatch."""
    try:
        reply = read_reply(message)
        form = reply.form
        model, version = form.model
    except (NotShared, CallError, ValueError) as fault:
        raise ReplyMismatch(f"The reply cannot be written for REST: {str(fault).removesuffix('.')}.") from None
    if not form.raw or not any(map(len, reply.columns)):
        raise ReplyMismatch("The reply has no raw bytes, so that it cannot be written for REST.")
    if form.parameters or form.unknown or any(each.parameters or each.unknown for each in form.tensors):
        raise ReplyMismatch("The reply has parameters, which REST may write in another way.")
    document: dict[str, Any] = {"id": reply.id.decode("utf-8", "surrogateescape")} if reply.id else {}
    document |= {"model_name": model, "model_version": version, "outputs": []}
    for output, raw in zip(form.tensors, reply.columns, strict=True):
        document["outputs"].append(
            {
                "name": output.name,
                "datatype": output.datatype,
                "shape": [reply.rows, *output.tail],
                "parameters": {"binary_data_size": len(raw)},
            }
        )
    head = write_text(_compact(document))
    return Written(b"".join([head, *reply.columns]), (*BINARY, (HEADER, str(len(head)))))


def _compact(value: Any) -> str:
    """As RapidJSON writes it: without blanks, and nothing escaped that need not be."""
    if isinstance(value, dict):
        return f"{{{','.join([f'{unescaped(key)}:{_compact(each)}' for key, each in value.items()])}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_compact, value))}]"
    return unescaped(value) if isinstance(value, str) else str(value)


def _grpc_form(form: RestForm, model: str, version: str | None) -> GrpcForm | Apart:
    """The form of the same request over gRPC, or why it has none."""
    if any(tensor.depth for tensor in form.tensors):
        return Apart.JSON_DATA
    asked = json.loads(form.text.filled(_fillings(form.text)))
    default = asked.pop("parameters", {})
    by_default = default.pop(_DEFAULT, False)
    outputs = asked.pop("outputs", [])
    inputs = {each["name"]: each for each in asked.pop("inputs")}
    if default or asked:
        return Apart.SAYS_MORE
    for each in (*inputs.values(), *outputs):
        parameters = each.get("parameters", {})
        parameters.pop("binary_data_size", None)
        each[_BINARY] = parameters.pop(_BINARY, by_default)
        if parameters or each.keys() - {"name", "datatype", "shape", "parameters", _BINARY}:
            return Apart.SAYS_MORE
    if not all(each[_BINARY] is True for each in outputs) or (not outputs and by_default is not True):
        return Apart.JSON_DATA
    message = len_field(1, model.encode()) + (b"" if version is None else len_field(2, version.encode()))
    for tensor in form.tensors:
        shape = b"".join(map(varint, (1, *tensor.tail)))
        message += len_field(
            5, len_field(1, tensor.name.encode()) + len_field(2, tensor.datatype.encode()) + len_field(3, shape)
        )
    message += b"".join([len_field(6, len_field(1, each["name"].encode())) for each in outputs])
    try:
        return form_of(message)
    except (NotShared, CallError):  # a dimension that protobuf cannot hold
        return Apart.SAYS_MORE


_remembered = lru_cache(2048)(_grpc_form)
"""Calls to one model say the same but for id and data."""


def _fillings(text: Template) -> list[str]:
    """Something for each gap, so that the text is JSON."""
    values = {ID: '""', ROWS: "1", SIZE: "0", DATA: ""}
    return [values[gap.what] for gap in text.gaps]
