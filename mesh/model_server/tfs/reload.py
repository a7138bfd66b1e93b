"""HandleReloadConfigRequest: a full list of what is to be served, checked, carried out and labelled."""

from collections.abc import Sequence
from pathlib import Path

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.loaded_models import VersionState
from mesh.model_server.models import Failures, Models, Wanted
from mesh.model_server.repository import Keep, VersionPolicy, is_valid_name
from mesh.protos import tfs_pb2 as pb

PLATFORMS = frozenset({"tensorflow", "onnxruntime", "onnxruntime_onnx"})


async def reload(models: Models, request: pb.ReloadConfigRequest) -> None:
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
        raise ServingError(StatusCode.UNKNOWN, message) from failures
    _apply_labels(models, configs)


def _wanted(models: Models, configs: Sequence[pb.ModelConfig]) -> list[Wanted]:
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


def _policy(config: pb.ModelConfig) -> VersionPolicy:
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(Keep.ALL)
    if kind == "specific":
        return VersionPolicy(Keep.SPECIFIC, versions=frozenset(policy.specific.versions))
    return VersionPolicy(Keep.LATEST, count=max(policy.latest.num_versions, 1))


def _apply_labels(models: Models, configs: Sequence[pb.ModelConfig]) -> None:
    """Set the labels of all models, or of none if one names a version that is not available."""
    entries = models.loaded.by_name
    for config in configs:
        for number in config.version_labels.values():
            version = entries[config.name].versions.get(number)
            if version is None or version.state is not VersionState.AVAILABLE:
                raise ServingError(
                    StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {config.name}, "
                    "which is not currently available for inference",
                )
    for entry in entries.values():
        entry.labels = {}
    for config in configs:
        entries[config.name].labels = dict(config.version_labels)
