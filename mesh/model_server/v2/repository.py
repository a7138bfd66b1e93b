"""The V2 protocol's model repository: its index, and loading and unloading by name."""

from collections.abc import Sequence

from tritonclient.grpc import service_pb2 as pb

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.loaded_models import LoadedModel, VersionState
from mesh.model_server.models import Failures, Models


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
        raise ServingError(
            StatusCode.INTERNAL, f"failed to load '{name}', failed to poll from model repository"
        ) from error


async def unload(models: Models, repository_name: str, name: str) -> None:
    """RepositoryModelUnload: returns at once, the model goes when its calls have ended. Raises ServingError."""
    _check_repository(repository_name)
    await models.unload(name)


def _check_repository(name: str) -> None:
    if name:
        raise ServingError(StatusCode.UNIMPLEMENTED, "'repository_name' specification is not supported")
