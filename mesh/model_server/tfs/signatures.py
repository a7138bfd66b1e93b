"""The one signature that every model has here: what Predict checks against it, and why tf.Examples are refused."""

from collections.abc import Mapping, Sequence

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.models import Models
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.tfs.lookup import find
from mesh.protos import tfs_pb2 as pb
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import BY_NUMPY, Array

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"


def check_signature(name: str) -> str:
    """The signature's name, the default one for "". Raises ServingError as Predict does."""
    if name not in ("", DEFAULT_SIGNATURE):
        raise ServingError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
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


def refuse_examples(models: Models, spec: pb.ModelSpec, kind: str) -> None:
    """Raise what TF Serving answers to Classify ("classification") and Regress ("regression") of such a model."""
    find(models, spec)
    check_example_signature(spec, kind)


def check_example_signature(spec: pb.ModelSpec, kind: str) -> None:
    """Raise the refusal: no model here takes tf.Examples, they all have one plain signature."""
    method = "tensorflow/serving/classify" if kind == "classification" else "tensorflow/serving/regress"
    if spec.signature_name not in ("", DEFAULT_SIGNATURE):
        raise invalid(f"No signature was found with the name: {spec.signature_name}")
    raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {PREDICT_METHOD}")


def signature_def(model: OnnxModel) -> pb.SignatureDefMap:
    """The signatures of a model: one, with the ONNX model's own names."""
    signatures = pb.SignatureDefMap()
    signature = signatures.signature_def[DEFAULT_SIGNATURE]
    signature.method_name = PREDICT_METHOD
    for specs, infos in ((model.inputs, signature.inputs), (model.outputs, signature.outputs)):
        for spec in specs:
            infos[spec.name].CopyFrom(tf_tensors.info(spec))
    return signatures
