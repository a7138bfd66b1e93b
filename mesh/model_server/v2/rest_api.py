"""The V2 (KServe, Triton) REST API: /v2."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from mesh.model_server import content_coding
from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.models import Models
from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.runner import Runner
from mesh.model_server.v2 import (
    descriptions,
    inference,
    lookup,
    repository,
    rest_parameters,
    rest_reply,
    rest_request,
    triton_json,
)

HEADER_LENGTH = "Inference-Header-Content-Length"

_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]+))?(?:/(infer|ready|config|stats))?")
_CONTROL = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")

#: How Triton translates its errors; what is not listed is 500.
_STATUSES = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.NOT_FOUND: 404,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
}

Handler = Callable[[RestCall], Awaitable[RestAnswer]]


class V2Rest:
    """The API over a set of models. `is_ready` tells whether the server has started up."""

    def __init__(self, models: Models, runner: Runner, is_ready: Callable[[], bool]) -> None:
        self._models = models
        self._runner = runner
        self._is_ready = is_ready

    async def answer(self, call: RestCall) -> RestAnswer:
        """Answer one request; refusals are `{"error": ...}` with Triton's status."""
        try:
            return await self._dispatch(call)
        except ServingError as error:
            return _refusal(_STATUSES.get(error.code, 500), error.message)

    async def _dispatch(self, call: RestCall) -> RestAnswer:
        fixed: dict[str, tuple[str, Callable[[RestCall], RestAnswer]]] = {
            "/v2": ("GET", lambda _: _message(descriptions.server_metadata())),
            "/v2/health/live": ("GET", lambda _: RestAnswer(200, content_type="text/plain")),
            "/v2/health/ready": ("GET", self._ready),
            "/v2/models/stats": ("GET", lambda _: self._statistics("", "")),
        }
        if call.path in fixed:
            method, handler = fixed[call.path]
            return handler(call) if call.method == method else _method_not_allowed()
        if call.path == "/v2/repository/index":
            return await self._index(call) if call.method == "POST" else _method_not_allowed()
        if match := _CONTROL.fullmatch(call.path):
            return await self._control(call, match[1], match[2])
        if match := _MODEL.fullmatch(call.path):
            name, version, what = match[1], match[2] or "", match[3] or "metadata"
            if call.method != ("POST" if what == "infer" else "GET"):
                return _method_not_allowed("text/plain" if what in ("infer", "ready") else "application/json")
            if what == "infer":
                return await self._infer(call, name, version)
            return self._about(name, version, what)
        return _refusal(404, "Not Found", "text/plain")

    def _ready(self, call: RestCall) -> RestAnswer:
        return RestAnswer(200 if self._is_ready() else 400, content_type="text/plain")

    def _about(self, name: str, version: str, what: str) -> RestAnswer:
        if what == "metadata":
            return _message(descriptions.model_metadata(self._models, name, version))
        if what == "config":
            return _message(descriptions.model_config(self._models, name, version))
        if what == "stats":
            return self._statistics(name, version)
        if not lookup.is_ready(self._models, name, version):
            return _refusal(400, "Model version not ready", "text/plain")
        return RestAnswer(200, content_type="text/plain")

    def _statistics(self, name: str, version: str) -> RestAnswer:
        return _message(descriptions.statistics(self._models, name, version))

    async def _parsed(self, body: bytes) -> Any:
        """The JSON of a body that may be left out."""
        return await self._runner.offload(len(body), lambda: triton_json.parse(body)) if body else {}

    async def _index(self, call: RestCall) -> RestAnswer:
        options = await self._parsed(call.body)
        ready = options.get("ready", False) if isinstance(options, dict) else False
        if not isinstance(ready, bool):
            raise triton_json.broken("attempt to access JSON non-boolean as boolean")
        models = repository.repository_index(self._models, "", ready).models
        return RestAnswer(200, triton_json.compact([MessageToDict(model) for model in models]))

    async def _control(self, call: RestCall, name: str, action: str) -> RestAnswer:
        if call.method != "POST":
            return _method_not_allowed()
        if action == "load":
            options = await self._parsed(call.body)
            await repository.load(self._models, "", name, rest_parameters.load(options))
        else:
            await repository.unload(self._models, "", name)
        return RestAnswer(200)

    async def _infer(self, call: RestCall, name: str, version: str) -> RestAnswer:
        try:
            found = lookup.find(self._models, name, version)
            coding = _coding(call)
            body = await self._runner.offload(call.max_bytes, lambda: _plain(call, coding)) if coding else call.body
            length = _header_length(call, body)
        except ServingError as error:
            # With an unknown coding Triton says which it knows.
            known = {"Accept-Encoding": "gzip, deflate"} if error.code is StatusCode.UNIMPLEMENTED else {}
            return _refusal(_STATUSES.get(error.code, 500), error.message, "text/plain", known)
        with found.lease() as model:
            request = await self._runner.offload(len(body), lambda: rest_request.decode(name, model, body, length))
            try:
                results = await inference.infer(self._runner, found, request.inputs, request.outputs)
                size = sum(array.nbytes for array in results.values())
                head, chunks = await self._runner.offload(
                    size, lambda: rest_reply.encode(name, found.number, model.outputs, request, results)
                )
            except ServingError as error:  # once the model is asked, Triton does not call its refusals JSON
                return _refusal(_STATUSES.get(error.code, 500), error.message, "text/plain")
        if not any(chunks):
            return RestAnswer(200, head, compressible=True)
        body = b"".join([head, *chunks])
        headers = {HEADER_LENGTH: str(len(head))}
        return RestAnswer(200, body, "application/octet-stream", headers, compressible=True)


def _coding(call: RestCall) -> str:
    """The content coding of the body: gzip, deflate, or "" for none. Raises ServingError."""
    name = call.headers.get("Content-Encoding", "").strip().lower().removeprefix("x-")
    if name not in ("", "identity", "gzip", "deflate"):
        raise ServingError(StatusCode.UNIMPLEMENTED, "Unsupported compression type")
    return "" if name == "identity" else name


def _plain(call: RestCall, coding: str) -> bytes:
    return content_coding.unpacked(coding, call.body, call.max_bytes)  # a few packed bytes may be many plain ones


def _header_length(call: RestCall, body: bytes) -> int | None:
    """The length of the JSON before binary data; None where the header is absent. Raises ServingError."""
    text = call.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    match = re.match(r"\s*([+-]?\d{1,19})", text, re.ASCII)
    length = int(match[1]) if match else 0  # as C's atoi reads it
    if not 0 <= length <= len(body):
        raise invalid(f"inference header size should be in range (0, {len(body)}), got: {length}")
    return length


def _message(message: Message) -> RestAnswer:
    document = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return RestAnswer(200, triton_json.compact(_as_triton(message.DESCRIPTOR, document)))


def _as_triton(descriptor: Any, document: dict[str, Any]) -> dict[str, Any]:
    """Protobuf's JSON as Triton prints it: fields in the order of declaration, 64-bit integers as numbers."""
    ordered: dict[str, Any] = {}
    for field in descriptor.fields:
        if field.name not in document:
            continue
        value = document[field.name]
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            value = [int(each) for each in value] if isinstance(value, list) else int(value)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            kind = field.message_type
            value = [_as_triton(kind, each) for each in value] if isinstance(value, list) else _as_triton(kind, value)
        ordered[field.name] = value
    return ordered


def _refusal(
    status: int, message: str, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> RestAnswer:
    return RestAnswer(status, triton_json.compact({"error": message}), content_type, headers or {})


def _method_not_allowed(content_type: str = "application/json") -> RestAnswer:
    return _refusal(405, "Method Not Allowed", content_type)
