"""TF Serving's REST API under /v1/models."""

import re
from functools import partial
from urllib.parse import unquote

from google.protobuf.json_format import MessageToJson

from mesh.model_server import content_coding, rapidjson
from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.models import Models
from mesh.model_server.repository import MAX_VERSION
from mesh.model_server.rest_call import RestAnswer, RestCall
from mesh.model_server.runner import Runner
from mesh.model_server.tfs import descriptions, lookup, rest_reply, rest_request, signatures
from mesh.protos import tfs_pb2 as pb

_SELECTOR = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_PREDICTION = re.compile(rf"/v1/models/([^/:]+){_SELECTOR}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(rf"/v1/models(?:/([^/:]+))?{_SELECTOR}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(r"https?://")

#: How TF Serving translates status codes (its model_servers/http_server.cc); what is not listed is 500.
_STATUSES = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.NOT_FOUND: 404,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
}


class TfServingRest:
    """The API over a set of models."""

    def __init__(self, models: Models, runner: Runner) -> None:
        self._models = models
        self._runner = runner

    async def answer(self, call: RestCall) -> RestAnswer:
        """Answer one request; refusals are `{"error": ...}` with TF Serving's status."""
        if call.method == "OPTIONS":  # a web page asks whether it may call; others are refused without a word
            allowed = _ORIGIN.search(call.headers.get("Origin", "")) is not None
            return RestAnswer(200 if allowed else 400, content_type="")
        try:
            return RestAnswer(200, rapidjson.encode(await self._dispatch(call)))
        except ServingError as error:
            text = rapidjson.pretty({"error": error.message})
            return RestAnswer(_STATUSES.get(error.code, 500), rapidjson.encode(text))

    async def _dispatch(self, call: RestCall) -> str:
        # To TF Serving a query is a part of the path: there is none for :predict, and a name may hold one.
        if call.method == "POST" and (match := _PREDICTION.fullmatch(call.target)):
            spec = _spec(match)
            if match[4] == "predict":
                return await self._predict(spec, await self._body(call))
            if match[4] in ("classify", "regress"):
                return await self._refuse_examples(spec, await self._body(call), match[4])
        elif call.method == "GET" and (match := _STATUS.fullmatch(call.target)):
            spec = _spec(match)
            if not spec.name:
                raise invalid("Missing model name in request.")
            return self._metadata(spec) if match[4] == "metadata" else self._status(spec)
        raise invalid(f"Malformed request: {call.method} {call.target}")

    async def _body(self, call: RestCall) -> bytes:
        """The body, unpacked where it is said to be gzip; other codings are not looked at."""
        if "gzip" not in call.headers.get("Content-Encoding", ""):
            return call.body
        work = partial(content_coding.unpacked, "gzip", call.body, call.max_bytes)
        return await self._runner.offload(call.max_bytes, work)  # a few packed bytes may be many plain ones

    async def _predict(self, spec: pb.ModelSpec, body: bytes) -> str:
        document = await self._runner.offload(len(body), lambda: rest_request.parse_object(body))
        signature = rest_request.signature_of(document)
        version = lookup.find(self._models, spec)
        with version.lease() as model:
            if signature not in ("", signatures.DEFAULT_SIGNATURE):
                raise invalid(f'Serving signature name: "{signature}" not found in signature def')
            inputs, rows = await self._runner.offload(len(body), lambda: rest_request.decode(document, model.inputs))
            signatures.check_inputs(model, inputs)
            results = await self._runner.infer(version, inputs, signatures.choose_outputs(model, ()))
            size = sum(array.nbytes for array in results.values())
            return await self._runner.offload(size, lambda: rest_reply.encode(results, rows))

    async def _refuse_examples(self, spec: pb.ModelSpec, body: bytes, method: str) -> str:
        document = await self._runner.offload(len(body), lambda: rest_request.parse_object(body))
        spec.signature_name = rest_request.signature_of(document)
        rest_request.check_examples(document)
        signatures.refuse_examples(self._models, spec, "classification" if method == "classify" else "regression")
        raise AssertionError("not refused")

    def _status(self, spec: pb.ModelSpec) -> str:
        return _print(descriptions.status(self._models, pb.GetModelStatusRequest(model_spec=spec))) + "\n"

    def _metadata(self, spec: pb.ModelSpec) -> str:
        request = pb.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
        response = descriptions.metadata(self._models, request)
        signature_map = pb.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        # Put together from two printed messages, line breaks and all, as TF Serving does.
        return (
            f'{{\n"model_spec":{_print(response.model_spec)}\n,\n'
            f'"metadata": {{"signature_def": {_print(signature_map)}\n}}\n}}\n'
        )


def _print(message: pb.ModelSpec | pb.SignatureDefMap | pb.GetModelStatusResponse) -> str:
    return MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=1)


def _spec(match: re.Match[str]) -> pb.ModelSpec:
    spec = pb.ModelSpec(name=unquote(match[1] or "", errors="replace"))
    if match[2]:
        if int(match[2]) > MAX_VERSION:
            raise invalid(f"Failed to convert version: {match[2]} to numeric.")
        spec.version.value = int(match[2])
    if match[3]:
        spec.version_label = unquote(match[3], errors="replace")
    return spec
