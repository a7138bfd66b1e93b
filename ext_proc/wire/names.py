"""The one rule of names (`mesh.names`) for what a client sends: every breach is a CallError(INVALID)."""

from ext_proc.errors import CallError, Reason
from mesh.names import fault_sentence, name_fault, version_fault
from mesh.names import quoted as quoted


def check_name(name: str, part: str = "model name") -> str:
    """The name, if it may be one; raises CallError(INVALID) that calls it by `part`."""
    fault = name_fault(name)
    if fault is None:
        return name
    raise CallError(Reason.INVALID, fault_sentence(part, name, fault))


def check_label(label: str) -> str:
    """A version label: the same rule as for names."""
    return check_name(label, "version label")


def check_version(version: str) -> str:
    """The version as it was written, if it may be one. Raises CallError(INVALID)."""
    fault = version_fault(version)
    if fault is None:
        return version
    raise CallError(Reason.INVALID, f"The model version {quoted(version)} {fault}.")


def decode(raw: bytes, part: str = "model name") -> str:
    """Text of a protobuf string field. Raises CallError(INVALID) if it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CallError(Reason.INVALID, f"The {part} {quoted(raw[:80])} is not UTF-8.") from None
