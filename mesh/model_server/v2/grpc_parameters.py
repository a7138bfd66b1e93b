"""Parameters of V2's gRPC messages: which kind each one has, and Triton's words for another kind.

A parameter is a protobuf oneof (`parameter_choice`); the kinds are names of its fields. An unknown name of a request
may have any kind that Triton hands on to a model, and unknown names of inputs and outputs are not looked at.
"""

from collections.abc import Mapping

from tritonclient.grpc import service_pb2 as pb

from mesh.model_server.errors import invalid
from mesh.model_server.v2 import inference

Parameters = Mapping[str, pb.InferParameter]

#: The parameters of a request that mean something to Triton, and their kinds.
_REQUEST = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": ("int64_param", "uint64_param"),
    "timeout": ("int64_param",),
    inference.FINAL_RESPONSE: ("bool_param",),
}
_CUSTOM = ("int64_param", "bool_param", "string_param", "double_param")


def check_request(parameters: Parameters) -> None:
    """Raise ServingError unless every parameter of a request has its kind and none a reserved name."""
    for name, value in parameters.items():
        kinds = _REQUEST.get(name)
        kind = value.WhichOneof("parameter_choice")
        if kinds is None:
            if name.startswith(inference.RESERVED):
                raise invalid(
                    f"parameter keys starting with '{inference.RESERVED}' are reserved for Triton usage. "
                    f"Only the following keys starting with '{inference.RESERVED}' are allowed: "
                    f"{inference.FINAL_RESPONSE}"
                )
            if kind not in _CUSTOM:  # Triton's text leaves out the double, which it takes
                raise invalid(
                    f"invalid value type for '{name}' parameter, expected int64_param, bool_param, or string_param."
                )
        elif kind not in kinds:
            raise invalid(f"invalid value type for '{name}' parameter, expected {' or '.join(kinds)}.")
        elif name == "priority" and kind == "int64_param" and value.int64_param < 0:
            raise invalid("invalid value for 'priority', expected value >= 0.")


def shared_memory(tensor: str, parameters: Parameters) -> str | None:
    """The shared memory region that an input or output names; None for none. Raises ServingError."""
    if not parameters:
        return None
    if "shared_memory_region" not in parameters:
        for name in ("shared_memory_offset", "shared_memory_byte_size"):
            if name in parameters:
                raise invalid(
                    f"'{name}' can not be specified without 'shared_memory_region' parameter for tensor '{tensor}'"
                )
        return None
    _check(tensor, parameters, "shared_memory_region", "string_param")
    if "shared_memory_offset" in parameters:
        _check(tensor, parameters, "shared_memory_offset", "int64_param")
    if "shared_memory_byte_size" not in parameters:
        raise invalid(
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' "
            f"parameter for tensor '{tensor}'"
        )
    _check(tensor, parameters, "shared_memory_byte_size", "int64_param")
    region: str = parameters["shared_memory_region"].string_param
    return region


def check_output(tensor: str, parameters: Parameters) -> None:
    """Raise ServingError if a requested output's parameters are wrong, or ask for what this server does not do."""
    if not parameters:
        return
    region = shared_memory(tensor, parameters)
    if "classification" in parameters:
        value = parameters["classification"]
        if value.WhichOneof("parameter_choice") != "int64_param":
            raise invalid("invalid value type for 'classification' parameter, expected int64_param")
        if value.int64_param <= 0:  # Triton's text says otherwise of 0
            raise invalid("invalid value for 'classification' parameter, expected >= 0")
        if region is not None:
            raise invalid("output can't set both 'shared_memory_region' and 'classification'")
        raise inference.classification_refused()
    if region is not None:
        raise inference.no_region(region)


def load(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> dict[str, str]:
    """The parameters of a load. Raises ServingError."""
    for name, value in parameters.items():
        kind = value.WhichOneof("parameter_choice")
        expected = "string_param" if name == "config" else "bytes_param" if name.startswith("file:") else None
        if expected is not None and kind != expected:
            raise invalid(f"invalid value type for load parameter '{name}', expected {expected}.")
    return {name: value.string_param for name, value in parameters.items()}


def check_unload(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> None:
    """Raise ServingError unless the one parameter of an unload has its kind."""
    name = "unload_dependents"
    if name in parameters and parameters[name].WhichOneof("parameter_choice") != "bool_param":
        raise invalid(f"invalid value type for '{name}' parameter, expected bool_param.")


def _check(tensor: str, parameters: Parameters, name: str, kind: str) -> None:
    if parameters[name].WhichOneof("parameter_choice") != kind:
        raise invalid(f"invalid value type for '{name}' parameter for tensor '{tensor}', expected {kind}.")
