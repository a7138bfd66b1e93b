"""The V2 protocol's model repository: its index, and loading and unloading by name."""

from collections.abc import Mapping

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.loaded_models import LoadedModel, VersionState
from mesh.model_server.models import Failures, Models
from mesh.model_server.repository import Keep, VersionPolicy


def repository_index(models: Models, repository_name: str, ready: bool) -> pb.RepositoryIndexResponse:
    """Every model of the repository, and every one that was loaded. Raises ServingError."""
    _check_repository(repository_name)
    response = pb.RepositoryIndexResponse()
    entries = models.loaded.by_name
    for name in sorted({*models.repository.names(), *entries}):
        entry = entries.get(name)
        if entry is not None and entry.versions:
            _add_index(response, entry, ready)
        elif not ready:
            response.models.add(name=name)
    return response


def _add_index(response: pb.RepositoryIndexResponse, entry: LoadedModel, ready: bool) -> None:
    states = {VersionState.AVAILABLE: "READY", VersionState.LOADING: "LOADING", VersionState.UNLOADING: "UNLOADING"}
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
        "Invalid argument"
        if error.code is StatusCode.INVALID_ARGUMENT
        else error.code.name.replace("_", " ").capitalize()
    )
    return f"{words}: {error.message}"


async def load(models: Models, repository_name: str, name: str, parameters: Mapping[str, str] | None = None) -> None:
    """RepositoryModelLoad. Of its parameters only `config` is taken, and of that the version policy.

    Raises ServingError.
    """
    _check_repository(repository_name)
    policy: VersionPolicy | None = None
    for parameter, value in (parameters or {}).items():
        if parameter.startswith("file:"):
            raise invalid(f"load parameter '{parameter}' is not supported by this server")
        if parameter != "config":
            raise invalid(f"unrecognized load parameter '{parameter}'.")
        policy = _version_policy(name, value)
    try:
        await models.load(name, policy)
    except Failures as failures:
        causes = "".join(
            f"version {number} is at UNAVAILABLE state: {_cause(cause)};\n" for number, cause in failures.causes
        )
        raise invalid(f"load failed for model '{name}': {causes}") from failures
    except ServingError as error:
        raise ServingError(
            StatusCode.INTERNAL, f"failed to load '{name}', failed to poll from model repository"
        ) from error


def _version_policy(name: str, config: str) -> VersionPolicy:
    """The version policy in a model configuration, as JSON. Raises ServingError."""
    try:
        message = json_format.Parse(config, model_config_pb2.ModelConfig(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise invalid(f"attempt to load model '{name}' with a config that cannot be read: {error}") from error
    if message.name not in ("", name):
        raise invalid(f"attempt to load model '{name}' with the config of model '{message.name}'")
    policy = message.version_policy
    if policy.WhichOneof("policy_choice") is None:
        raise invalid("load parameter 'config' is not supported by this server but for its version_policy")
    match policy.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy(Keep.ALL)
        case "specific":
            return VersionPolicy(Keep.SPECIFIC, versions=frozenset(policy.specific.versions))
    return VersionPolicy(Keep.LATEST, count=max(policy.latest.num_versions, 1))


async def unload(models: Models, repository_name: str, name: str) -> None:
    """RepositoryModelUnload: returns at once, the model goes when its calls have ended. Raises ServingError."""
    _check_repository(repository_name)
    await models.unload(name)


def _check_repository(name: str) -> None:
    if name:
        raise ServingError(StatusCode.UNIMPLEMENTED, "'repository_name' specification is not supported")
