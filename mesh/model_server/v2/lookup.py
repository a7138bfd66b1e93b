"""Which version of a model a V2 request means, and Triton's words where there is none."""

import re

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.loaded_models import ModelVersion
from mesh.model_server.models import Models
from mesh.model_server.repository import MAX_VERSION

_INTEGER = re.compile(r"\s*([+-]?\d+)", re.ASCII)


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


def find(models: Models, name: str, version: str = "") -> ModelVersion:
    """The available version that a request names. Raises ServingError."""
    number = version_number(version)
    found = models.loaded.find(name, number)
    if found is not None:
        return found
    entry = models.loaded.by_name.get(name)
    if entry is None:
        raise ServingError(StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
    if number is None:
        raise ServingError(StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' has no available versions")
    if number not in entry.versions:
        raise ServingError(StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' version {number} is not found")
    raise ServingError(
        StatusCode.UNAVAILABLE, f"Request for unknown model: '{name}' version {number} is not at ready state"
    )


def is_ready(models: Models, name: str, version: str = "") -> bool:
    """Whether a call to that model would be answered. Raises ServingError for a version that is no number."""
    return models.loaded.find(name, version_number(version)) is not None
