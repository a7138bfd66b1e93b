"""Triton's behaviour, whichever of its two V2 APIs asks: checks of a request, configuration, repository and so on.

The texts are those of Triton 2.51, compared with a real one in tests/integration.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from mesh.model_server.errors import Code, ServingError, invalid
from mesh.model_server.models import Failures, Models
from mesh.model_server.registry import Entry, State, Version
from mesh.model_server.repository import MAX_VERSION, MODEL_FILE
from mesh.model_server.runner import Runner
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.statistics import Duration
from mesh.tensors.dtypes import Array, TensorSpec
from mesh.tensors.v2 import DataError

SERVER_NAME = "tbms"
SERVER_VERSION = "0.1.0"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "statistics",
)
_INTEGER = re.compile(r"\s*([+-]?\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as the request declares it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def server_metadata() -> pb.ServerMetadataResponse:
    """What the server is."""
    return pb.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION, extensions=EXTENSIONS)


def version_number(text: str) -> int | None:
    """The version that a request names; None for "" (the latest). Raises ServingError."""
    if not text:
        return None
    match = _INTEGER.match(text)
    number = int(match[1]) if match else None
    if number is None or number > MAX_VERSION:
        raise invalid(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        )
    if number < 0:
        raise invalid(f"invalid model version specified '{text}' , version should be an integral value > 0")
    return number


def find(models: Models, name: str, version: str = "") -> Version:
    """The available version that a request names. Raises ServingError."""
    number = version_number(version)
    found = models.registry.find(name, number)
    if found is not None:
        return found
    entry = models.registry.entries.get(name)
    if entry is None:
        raise ServingError(Code.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
    if number is None:
        raise ServingError(Code.NOT_FOUND, f"Request for unknown model: '{name}' has no available versions")
    if number not in entry.versions:
        raise ServingError(Code.NOT_FOUND, f"Request for unknown model: '{name}' version {number} is not found")
    raise ServingError(Code.UNAVAILABLE, f"Request for unknown model: '{name}' version {number} is not at ready state")


def is_ready(models: Models, name: str, version: str = "") -> bool:
    """Whether a call to that model would be answered. Raises ServingError for a version that is no number."""
    return models.registry.find(name, version_number(version)) is not None


def choose_outputs(name: str, model: OnnxModel, wanted: Sequence[str]) -> list[str]:
    """The outputs to compute: those asked for, or all, in the model's order. Raises ServingError."""
    known = [spec.name for spec in model.outputs]
    for output in wanted:
        if output not in known:
            raise invalid(f"unexpected inference output '{output}' for model '{name}'")
    return [output for output in known if output in wanted] if wanted else known


def check_inputs(name: str, request_id: str, model: OnnxModel, given: Sequence[Tensor]) -> None:
    """Raise ServingError unless names, types and shapes are the model's, in Triton's order of checks."""
    prefix = request_prefix(request_id)
    specs = {spec.name: spec for spec in model.inputs}
    names = [tensor.name for tensor in given]
    for position, tensor_name in enumerate(names):
        if tensor_name in names[:position]:
            raise invalid(f"{prefix}input '{tensor_name}' already exists in request")
    if len(given) != len(specs):
        missing = ",".join(f"'{spec}'" for spec in sorted(specs.keys() - names))
        got = ",".join(f"'{tensor}'" for tensor in sorted(names))
        raise invalid(
            f"{prefix}expected {len(specs)} inputs but got {len(given)} inputs for model '{name}'. "
            # Triton drops the opening bracket where nothing is missing.
            f"Got input(s) [{got}], but missing required input(s) {f'[{missing}' if missing else ''}]. "
            "Please provide all required input(s)."
        )
    for tensor in given:
        spec = specs.get(tensor.name)
        if spec is None:
            raise invalid(f"unexpected inference input '{tensor.name}' for model '{name}'")
        _check_input(name, prefix, spec, tensor)


def _check_input(name: str, prefix: str, spec: TensorSpec, tensor: Tensor) -> None:
    if tensor.datatype != spec.dtype.v2:
        raise invalid(
            f"{prefix}inference input '{spec.name}' data-type is '{tensor.datatype}', "
            f"but model '{name}' expects '{spec.dtype.v2}'"
        )
    if any(size < 0 for size in tensor.shape):
        raise invalid(
            f"{prefix}All input dimensions should be specified for input '{spec.name}' for model '{name}', "
            f"got {_dims(tensor.shape)}"
        )
    if not spec.admits(tensor.shape):
        raise invalid(
            f"{prefix}unexpected shape for input '{spec.name}' for model '{name}'. "
            f"Expected {_dims(spec.shape)}, got {_dims(tensor.shape)}. "
        )


def bad_data(name: str, request_id: str, tensor: str, error: DataError) -> ServingError:
    """The refusal of an input whose data do not fill its shape."""
    return invalid(error.template.format(prefix=request_prefix(request_id), input=tensor, model=name))


def request_prefix(request_id: str) -> str:
    """How Triton's messages start where they speak of one request."""
    return f"[request id: {request_id or '<id_unknown>'}] "


def _dims(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


async def infer(
    runner: Runner, version: Version, inputs: Mapping[str, Array], outputs: Sequence[str]
) -> dict[str, Array]:
    """Run a leased version; a failure inside ONNX Runtime is INTERNAL here. Raises ServingError."""
    try:
        return await runner.infer(version, inputs, outputs)
    except ServingError as error:
        raise ServingError(Code.INTERNAL, error.message) from error


def model_metadata(models: Models, name: str, version: str) -> pb.ModelMetadataResponse:
    """Inputs and outputs of a model, and the versions that are ready. Raises ServingError."""
    found = find(models, name, version)
    with found.lease() as model:
        response = pb.ModelMetadataResponse(name=name, platform=PLATFORM)
        if version_number(version) is None:
            response.versions.extend(str(each.number) for each in models.registry.entries[name].available())
        else:
            response.versions.append(str(found.number))
        for specs, tensors in ((model.inputs, response.inputs), (model.outputs, response.outputs)):
            for spec in specs:
                tensors.add(name=spec.name, datatype=spec.dtype.v2, shape=spec.shape)
    return response


def model_config(models: Models, name: str, version: str) -> config_pb.ModelConfig:
    """The configuration that Triton would complete for such a model. Raises ServingError.

    max_batch_size is 0: shapes are given in full, so the first dimension is an ordinary dynamic one, without a limit.
    """
    found = find(models, name, version)
    with found.lease() as model:
        config = config_pb.ModelConfig(
            name=name, platform=PLATFORM, backend="onnxruntime", default_model_filename=MODEL_FILE
        )
        config.version_policy.latest.num_versions = 1
        for spec in model.inputs:
            config.input.add(name=spec.name, data_type=spec.dtype.config, dims=spec.shape)
        for spec in model.outputs:
            config.output.add(name=spec.name, data_type=spec.dtype.config, dims=spec.shape)
        config.instance_group.add(name=f"{name}_0", count=1, kind=config_pb.ModelInstanceGroup.KIND_CPU)
    return config


def statistics(models: Models, name: str, version: str) -> pb.ModelStatisticsResponse:
    """Counts and times of one version, of one model or of all. Raises ServingError."""
    entries = models.registry.entries
    number = version_number(version)
    if name and (name not in entries or not entries[name].available()):
        raise invalid(f"requested model '{name}' is not available")
    if name and number is not None and models.registry.find(name, number) is None:
        raise invalid(f"requested model version is not available for model '{name}'")
    response = pb.ModelStatisticsResponse()
    for each in sorted(entries):
        if name in ("", each):
            for found in entries[each].available():
                if number in (None, found.number):
                    _add_statistics(response, found)
    return response


def _add_statistics(response: pb.ModelStatisticsResponse, version: Version) -> None:
    counts = version.statistics
    added = response.model_stats.add(
        name=version.name,
        version=str(version.number),
        last_inference=counts.last_inference,
        inference_count=counts.success.count,
        execution_count=counts.success.count,
    )
    nothing = Duration()
    for field, duration in (
        ("success", counts.success),
        ("fail", counts.fail),
        ("queue", counts.queue),
        ("compute_input", Duration(counts.compute.count)),
        ("compute_infer", counts.compute),
        ("compute_output", Duration(counts.compute.count)),
        ("cache_hit", nothing),
        ("cache_miss", nothing),
    ):
        target = getattr(added.inference_stats, field)
        target.SetInParent()
        target.count, target.ns = duration.count, duration.ns
    if version.knobs.memory_bytes is not None:
        added.memory_usage.add(type="CPU", id=0, byte_size=version.knobs.memory_bytes)


def repository_index(models: Models, repository_name: str, ready: bool) -> pb.RepositoryIndexResponse:
    """Every model of the repository, and every one that was loaded. Raises ServingError."""
    _check_repository(repository_name)
    response = pb.RepositoryIndexResponse()
    entries = models.registry.entries
    for name in sorted({*models.repository.names(), *entries}):
        entry = entries.get(name)
        if entry is not None and entry.versions:
            _add_index(response, entry, ready)
        elif not ready:
            response.models.add(name=name)
    return response


def _add_index(response: pb.RepositoryIndexResponse, entry: Entry, ready: bool) -> None:
    states = {State.AVAILABLE: "READY", State.LOADING: "LOADING", State.UNLOADING: "UNLOADING"}
    for number, version in sorted(entry.versions.items()):
        state = states.get(version.state, "UNAVAILABLE")
        if ready and state != "READY":
            continue
        reason = ""
        if state == "UNAVAILABLE":
            reason = _cause(version.error) if version.error else "unloaded"
        response.models.add(name=entry.name, version=str(number), state=state, reason=reason)


def _cause(error: ServingError) -> str:
    words = (
        "Invalid argument" if error.code is Code.INVALID_ARGUMENT else error.code.name.replace("_", " ").capitalize()
    )
    return f"{words}: {error.message}"


async def load(models: Models, repository_name: str, name: str, parameters: Sequence[str] = ()) -> None:
    """RepositoryModelLoad. Raises ServingError."""
    _check_repository(repository_name)
    for parameter in parameters:
        raise invalid(f"load parameter '{parameter}' is not supported by this server")
    try:
        await models.load(name)
    except Failures as failures:
        causes = "".join(
            f"version {number} is at UNAVAILABLE state: {_cause(cause)};\n" for number, cause in failures.causes
        )
        raise invalid(f"load failed for model '{name}': {causes}") from failures
    except ServingError as error:
        raise ServingError(Code.INTERNAL, f"failed to load '{name}', failed to poll from model repository") from error


async def unload(models: Models, repository_name: str, name: str) -> None:
    """RepositoryModelUnload: returns at once, the model goes when its calls have ended. Raises ServingError."""
    _check_repository(repository_name)
    await models.unload(name)


def _check_repository(name: str) -> None:
    if name:
        raise ServingError(Code.UNIMPLEMENTED, "'repository_name' specification is not supported")
