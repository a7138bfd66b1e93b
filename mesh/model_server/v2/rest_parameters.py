"""Parameters in V2's JSON: which kind each one has, and Triton's words for another kind.

"parameters" of a request must be an object; those of an input or output that are none are not looked at.
"""

from dataclasses import dataclass
from typing import Any

from mesh.model_server.errors import invalid
from mesh.model_server.v2 import inference, triton_json

_BOOLEANS = ("sequence_start", "sequence_end", "binary_data_output")
_UNSIGNED = ("priority", "timeout")
_SIZES = ("shared_memory_offset", "shared_memory_byte_size")


@dataclass(frozen=True, slots=True)
class OutputParameters:
    """What is asked of one output: its best `classes` in place of its values (0: no), and binary data or JSON."""

    classes: int
    binary: bool


def binary_data_output(document: Any) -> bool:
    """Whether a request wants all its outputs as binary data; its other parameters are checked. Raises ServingError."""
    if not isinstance(document, dict) or "parameters" not in document:
        return False
    parameters = document["parameters"]
    if not isinstance(parameters, dict):
        raise triton_json.broken("failed to get request params.: attempt to get members for non-object")
    for name, value in parameters.items():
        if name in _BOOLEANS:
            triton_json.boolean(value, name)
        elif name in _UNSIGNED:
            triton_json.unsigned(value, name)
        elif name == "sequence_id":
            if not triton_json.is_unsigned(value):
                triton_json.text(value, name)
        elif name.startswith(inference.RESERVED):
            raise invalid(
                f"parameter keys starting with '{inference.RESERVED}' are reserved for Triton usage "
                "and should not be specified."
            )
        elif not isinstance(value, str | int | float):  # a bool is an int
            raise invalid(f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.")
    return bool(parameters.get("binary_data_output", False))


def check_input(parameters: dict[str, Any]) -> None:
    """Raise ServingError if an input's parameters are wrong, or name a shared memory region: there is none."""
    region = _region(parameters)
    if region is not None:
        raise inference.no_region(region)


def output(parameters: dict[str, Any]) -> OutputParameters:
    """What a requested output's parameters say. Raises ServingError."""
    classes = 0
    if "classification" in parameters:
        if "shared_memory_region" in parameters:
            raise invalid("Output can't set both 'shared_memory_region' and 'classification'")
        classes = triton_json.unsigned(parameters["classification"], "classification", "set")
    in_memory, binary = "shared_memory_region" in parameters, parameters.get("binary_data", False)
    if in_memory and triton_json.boolean(binary, "binary_data", "set"):
        raise invalid("Output can't set both 'shared_memory_region' and 'binary_data'")
    check_input(parameters)
    return OutputParameters(classes, triton_json.boolean(binary, "binary_data"))


def load(document: Any) -> dict[str, str]:
    """The parameters of a load. Raises ServingError."""
    parameters = document.get("parameters", {}) if isinstance(document, dict) else {}
    if not isinstance(parameters, dict):
        raise triton_json.broken("attempt to get members for non-object")
    for value in parameters.values():
        if not isinstance(value, str):
            raise triton_json.broken("attempt to access JSON non-string as string")
    return parameters


def _region(parameters: dict[str, Any]) -> str | None:
    region = None
    if "shared_memory_region" in parameters:
        region = triton_json.text(parameters["shared_memory_region"], "shared_memory_region")
    for name in _SIZES:
        if name in parameters:
            triton_json.unsigned(parameters[name], name)
    return region
