"""Which version of a model a ModelSpec means, and TF Serving's words where there is none."""

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.loaded_models import ModelVersion
from mesh.model_server.models import Models
from mesh.protos import tfs_pb2 as pb


def find(models: Models, spec: pb.ModelSpec) -> ModelVersion:
    """The available version that a ModelSpec names. Raises ServingError."""
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    number = None
    if choice == "version":
        number = spec.version.value
    elif choice == "version_label":
        entry = models.loaded.by_name.get(spec.name)
        number = entry.labels.get(spec.version_label) if entry else None
        if number is None:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    version = models.loaded.find(spec.name, number)
    if version is None:
        wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        raise ServingError(StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
    return version
