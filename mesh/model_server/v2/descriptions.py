"""What a V2 server tells about itself and its models: metadata, configuration, statistics."""

from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from mesh.model_server.errors import invalid
from mesh.model_server.loaded_models import ModelVersion
from mesh.model_server.models import Models
from mesh.model_server.repository import MODEL_FILE
from mesh.model_server.statistics import Duration
from mesh.model_server.v2 import lookup

SERVER_NAME = "tbms"
SERVER_VERSION = "0.1.0"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "statistics",
)


def server_metadata() -> pb.ServerMetadataResponse:
    """What the server is."""
    return pb.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION, extensions=EXTENSIONS)


def model_metadata(models: Models, name: str, version: str) -> pb.ModelMetadataResponse:
    """Inputs and outputs of a model, and the versions that are ready. Raises ServingError."""
    found = lookup.find(models, name, version)
    with found.lease() as model:
        response = pb.ModelMetadataResponse(name=name, platform=PLATFORM)
        if lookup.version_number(version) is None:
            response.versions.extend(str(each.number) for each in models.loaded.by_name[name].available())
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
    found = lookup.find(models, name, version)
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
    entries = models.loaded.by_name
    number = lookup.version_number(version)
    if name and (name not in entries or not entries[name].available()):
        raise invalid(f"requested model '{name}' is not available")
    if name and number is not None and models.loaded.find(name, number) is None:
        raise invalid(f"requested model version is not available for model '{name}'")
    response = pb.ModelStatisticsResponse()
    for each in sorted(entries):
        if name in ("", each):
            for found in entries[each].available():
                if number in (None, found.number):
                    _add_statistics(response, found)
    return response


def _add_statistics(response: pb.ModelStatisticsResponse, version: ModelVersion) -> None:
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
