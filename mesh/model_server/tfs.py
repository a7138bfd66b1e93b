"""TF Serving's behaviour, whichever of its two APIs asks: servables, signatures, statuses, reload."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.model_server.errors import Code, ServingError, invalid
from mesh.model_server.models import Failures, Models, Wanted
from mesh.model_server.registry import State, Version
from mesh.model_server.repository import Keep, VersionPolicy, is_valid_name
from mesh.model_server.runtime import OnnxModel
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import BY_NUMPY, Array

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
PLATFORMS = frozenset({"tensorflow", "onnxruntime", "onnxruntime_onnx"})
_ERROR_LIMIT = 1024  # TF Serving's own, for gRPC messages


def find(models: Models, spec: tfs.ModelSpec) -> Version:
    """The available version that a ModelSpec names. Raises ServingError."""
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    number = None
    if choice == "version":
        number = spec.version.value
    elif choice == "version_label":
        entry = models.registry.entries.get(spec.name)
        number = entry.labels.get(spec.version_label) if entry else None
        if number is None:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    version = models.registry.find(spec.name, number)
    if version is None:
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
    return version


def check_signature(name: str) -> str:
    """The signature's name, the default one for "". Raises ServingError as Predict does."""
    if name not in ("", DEFAULT_SIGNATURE):
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return DEFAULT_SIGNATURE


def check_inputs(model: OnnxModel, inputs: Mapping[str, Array]) -> None:
    """Raise ServingError unless the names and the types are those of the signature."""
    check_names(model, inputs)
    for position, spec in enumerate(model.inputs):
        array = inputs[spec.name]
        if array.dtype != spec.dtype.numpy:
            got = BY_NUMPY[array.dtype].tf_name
            raise invalid(f"Expects arg[{position}] to be {spec.dtype.tf_name} but {got} is provided")


def check_names(model: OnnxModel, given: Mapping[str, object]) -> None:
    """Raise ServingError unless exactly the signature's inputs are given."""
    names = {spec.name for spec in model.inputs}
    if len(given) != len(names):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(names)} "
            f"len({_set(given)}) != len({_set(names)}). Sent extra: {_set(given.keys() - names)}. "
            f"Missing but required: {_set(names - given.keys())}."
        )
    for name in sorted(names):
        if name not in given:
            raise invalid(
                f"Signature input alias: {name}(feed name: {name}:0) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_set(given)}, or default input alias set: "
            )


def choose_outputs(model: OnnxModel, wanted: Sequence[str]) -> list[str]:
    """The outputs to compute: those of the filter, in its order, or all. Raises ServingError."""
    names = [spec.name for spec in model.outputs]
    seen: set[str] = set()
    for name in wanted:
        if name not in names:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set {_set(names)}."
            )
        if name in seen:
            raise invalid(f"duplicate output tensor alias: {name}")
        seen.add(name)
    return list(wanted) or names


def _set(names: Sequence[str] | set[str] | Mapping[str, object]) -> str:
    return f"{{{','.join(sorted(names))}}}"


def refuse_examples(models: Models, spec: tfs.ModelSpec, kind: str) -> None:
    """Raise what TF Serving answers to Classify ("classification") and Regress ("regression") of such a model."""
    find(models, spec)
    check_example_signature(spec, kind)


def check_example_signature(spec: tfs.ModelSpec, kind: str) -> None:
    """Raise the refusal: no model here takes tf.Examples, they all have one plain signature."""
    method = "tensorflow/serving/classify" if kind == "classification" else "tensorflow/serving/regress"
    if spec.signature_name not in ("", DEFAULT_SIGNATURE):
        raise invalid(f"No signature was found with the name: {spec.signature_name}")
    raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {PREDICT_METHOD}")


def signature_def(model: OnnxModel) -> tfs.SignatureDefMap:
    """The signatures of a model: one, with the ONNX model's own names."""
    signatures = tfs.SignatureDefMap()
    signature = signatures.signature_def[DEFAULT_SIGNATURE]
    signature.method_name = PREDICT_METHOD
    for specs, infos in ((model.inputs, signature.inputs), (model.outputs, signature.outputs)):
        for spec in specs:
            infos[spec.name].CopyFrom(tf_tensors.info(spec))
    return signatures


def metadata(models: Models, request: tfs.GetModelMetadataRequest) -> tfs.GetModelMetadataResponse:
    """The answer to GetModelMetadata. Raises ServingError."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != "signature_def":
            raise invalid(f"Metadata field {name} is not supported")
    version = find(models, request.model_spec)
    response = tfs.GetModelMetadataResponse()
    response.model_spec.name = version.name
    response.model_spec.version.value = version.number
    with version.lease() as model:
        packed = response.metadata["signature_def"]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = signature_def(model).SerializeToString(deterministic=True)
    return response


def status(models: Models, request: tfs.GetModelStatusRequest) -> tfs.GetModelStatusResponse:
    """The answer to GetModelStatus: the named version, or every one that was ever loaded. Raises ServingError."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    entry = models.registry.entries.get(spec.name)
    versions = entry.versions if entry else {}
    if spec.WhichOneof("version_choice") == "version":
        number = spec.version.value
        if number not in versions:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {number} of model {spec.name}")
        versions = {number: versions[number]}
    if not versions:
        raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    response = tfs.GetModelStatusResponse()
    for number, version in sorted(versions.items()):
        error = version.error
        response.model_version_status.add(
            version=number,
            state=tfs.ModelVersionStatus.State.Name(version.state),
            status=tfs.StatusProto(error_code=error.code.name if error else "OK", error_message=str(error or "")),
        )
    return response


async def reload(models: Models, request: tfs.ReloadConfigRequest) -> None:
    """Serve exactly the listed models. Returns when the new ones are available. Raises ServingError.

    Unlike TF Serving, which then waits without end, a base path without versions is an error at once.
    """
    kind = request.config.WhichOneof("config")
    if kind != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    configs = list(request.config.model_config_list.config)
    wanted = _wanted(models, configs)
    try:
        await models.apply(wanted)
    except Failures as failures:
        causes = "".join(
            f"{{{{name: {failures.name} version: {number}}} due to error: {cause.code.name}: {cause.message}}}, "
            for number, cause in failures.causes
        )
        message = f"{len(failures.causes)} model(s) did not become available: {{{causes}}}"
        raise ServingError(Code.UNKNOWN, message) from failures
    _apply_labels(models, configs)


def _wanted(models: Models, configs: Sequence[tfs.ModelConfig]) -> list[Wanted]:
    wanted: dict[str, Wanted] = {}
    for config in configs:
        if config.name in wanted:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        if not is_valid_name(config.name):
            raise invalid(f"Invalid servable name: '{config.name}'")
        wanted[config.name] = Wanted(config.name, Path(config.base_path), _policy(config))
    for config in configs:
        base = Path(config.base_path)
        if not base.is_absolute():
            raise invalid(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
        if "\0" in config.base_path or not models.repository.admits(base):
            raise invalid(f"The base_path of model {config.name} lies outside the folders that this server may read")
        if not config.model_platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {config.name}"
            )
        if config.model_platform not in PLATFORMS:
            raise invalid(f"Model {config.name} requests unsupported platform {config.model_platform}")
    return list(wanted.values())


def _policy(config: tfs.ModelConfig) -> VersionPolicy:
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(Keep.ALL)
    if kind == "specific":
        return VersionPolicy(Keep.SPECIFIC, versions=frozenset(policy.specific.versions))
    return VersionPolicy(Keep.LATEST, count=max(policy.latest.num_versions, 1))


def _apply_labels(models: Models, configs: Sequence[tfs.ModelConfig]) -> None:
    """Set the labels of all models, or of none if one names a version that is not available."""
    entries = models.registry.entries
    for config in configs:
        for number in config.version_labels.values():
            version = entries[config.name].versions.get(number)
            if version is None or version.state is not State.AVAILABLE:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {config.name}, "
                    "which is not currently available for inference",
                )
    for entry in entries.values():
        entry.labels = {}
    for config in configs:
        entries[config.name].labels = dict(config.version_labels)


def truncate(error: ServingError) -> ServingError:
    """The error as TF Serving sends it over gRPC: messages are cut after 1024 bytes."""
    if len(error.message) <= _ERROR_LIMIT:
        return error
    return ServingError(error.code, f"{error.message[:_ERROR_LIMIT]}...TRUNCATED")
