"""What TF Serving tells about a model: its metadata and the states of its versions."""

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.models import Models
from mesh.model_server.tfs.lookup import find
from mesh.model_server.tfs.signatures import signature_def
from mesh.protos import tfs_pb2 as pb


def metadata(models: Models, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
    """The answer to GetModelMetadata. Raises ServingError."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != "signature_def":
            raise invalid(f"Metadata field {name} is not supported")
    version = find(models, request.model_spec)
    response = pb.GetModelMetadataResponse()
    response.model_spec.name = version.name
    response.model_spec.version.value = version.number
    with version.lease() as model:
        packed = response.metadata["signature_def"]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = signature_def(model).SerializeToString(deterministic=True)
    return response


def status(models: Models, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
    """The answer to GetModelStatus: the named version, or every one that was ever loaded. Raises ServingError."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    entry = models.loaded.by_name.get(spec.name)
    versions = entry.versions if entry else {}
    if spec.WhichOneof("version_choice") == "version":
        number = spec.version.value
        if number not in versions:
            raise ServingError(StatusCode.NOT_FOUND, f"Could not find version {number} of model {spec.name}")
        versions = {number: versions[number]}
    if not versions:
        raise ServingError(StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    response = pb.GetModelStatusResponse()
    for number, version in sorted(versions.items()):
        error = version.error
        response.model_version_status.add(
            version=number,
            state=pb.ModelVersionStatus.State.Name(version.state),
            status=pb.StatusProto(error_code=error.code.name if error else "OK", error_message=str(error or "")),
        )
    return response
