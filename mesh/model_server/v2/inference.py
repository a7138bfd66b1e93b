"""An inference as Triton takes it: what it checks of a request, in which order, and how it tells of a failed run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.model_server.loaded_models import ModelVersion
from mesh.model_server.runner import Runner
from mesh.model_server.runtime import OnnxModel, StringsError
from mesh.tensors.dtypes import BY_V2, Array, TensorSpec
from mesh.tensors.v2 import DataError, DataFault

INVALID = "<invalid>"
"""Triton's name for every datatype that it does not know."""

_FAULTS = {
    DataFault.BYTE_SIZE: "{prefix}input byte size mismatch for input '{input}' for model '{model}'. "
    "Expected {expected}, got {got}",
    DataFault.SHAPE: "{prefix}the shape of input '{input}' for model '{model}' is not that of an array",
    DataFault.CUT_LENGTH: "{prefix}incomplete string length indicator for inference input '{input}' for model "
    "'{model}', expecting {expected} bytes but only {got} bytes available. "
    "Please make sure the string length indicator is in one buffer.",
    # The one that Triton writes without the request's id.
    DataFault.CUT_STRING: "incomplete string data for inference input '{input}', "
    "expecting string of length {expected} but only {got} bytes available",
    DataFault.FEW_STRINGS: "{prefix}expected {expected} string elements for inference input '{input}' "
    "for model '{model}', got {got}",
    DataFault.MANY_STRINGS: "{prefix}unexpected number of string elements {got} for inference input '{input}' "
    "for model '{model}', expecting {expected}",
}


RESERVED = "triton_"
"""How the names start that requests may not give to parameters of their own."""
FINAL_RESPONSE = "triton_enable_empty_final_response"
"""The one reserved name that gRPC requests may use."""


def datatype(text: str) -> str:
    """A datatype as Triton keeps it: what it does not know is all the same to it."""
    return text if text in BY_V2 or text == "BF16" else INVALID


def no_region(region: str) -> ServingError:
    """The refusal of shared memory. None can be registered here, so this is what Triton says of every region."""
    return ServingError(StatusCode.NOT_FOUND, f"Unable to find shared memory region: '{region}'")


def classification_refused() -> ServingError:
    """The refusal of the classification extension, which would change an output's datatype and shape."""
    return invalid("classification of outputs is not supported by this server")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as the request declares it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def choose_outputs(name: str, model: OnnxModel, wanted: Sequence[str]) -> list[str]:
    """The outputs to compute: those asked for, or all, in the model's order. Raises ServingError."""
    known = dict.fromkeys(spec.name for spec in model.outputs)
    for output in wanted:
        if output not in known:
            raise invalid(f"unexpected inference output '{output}' for model '{name}'")
    asked = frozenset(wanted) or known
    return [output for output in known if output in asked]


def check_names(request_id: str, given: Sequence[str]) -> None:
    """Raise ServingError for the first input that comes a second time: Triton sees it before it sees any data."""
    names: set[str] = set()
    for name in given:
        if name in names:
            raise twice(request_id, name)
        names.add(name)


def twice(request_id: str, name: str) -> ServingError:
    """The refusal, in Triton's words, of an input that comes a second time."""
    return invalid(f"{request_prefix(request_id)}input '{name}' already exists in request")


def check_inputs(name: str, request_id: str, model: OnnxModel, given: Sequence[Tensor]) -> None:
    """Raise ServingError unless names, types and shapes are the model's, in Triton's order of checks.

    No name may come twice (`check_names`).
    """
    prefix = request_prefix(request_id)
    specs = {spec.name: spec for spec in model.inputs}
    names = dict.fromkeys(tensor.name for tensor in given)
    if len(given) != len(specs):
        missing = ",".join(f"'{spec}'" for spec in sorted(specs.keys() - names.keys()))
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
    """The refusal, in Triton's words, of an input whose data do not fill its shape."""
    prefix = request_prefix(request_id)
    text = _FAULTS[error.fault]
    return invalid(text.format(prefix=prefix, input=tensor, model=name, expected=error.expected, got=error.got))


def request_prefix(request_id: str) -> str:
    """How Triton's messages start where they speak of one request."""
    return f"[request id: {request_id or '<id_unknown>'}] "


def _dims(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


async def infer(
    runner: Runner, version: ModelVersion, inputs: Mapping[str, Array], outputs: Sequence[str]
) -> dict[str, Array]:
    """Run a leased version; a failure inside ONNX Runtime is INTERNAL here. Raises ServingError."""
    try:
        return await runner.infer(version, inputs, outputs)
    except StringsError:
        raise
    except ServingError as error:
        raise ServingError(StatusCode.INTERNAL, error.message) from error
