"""What V2 calls are refused for, over gRPC and REST alike."""

from ext_proc.errors import CallError, Reason
from ext_proc.wire.names import quoted

REPOSITORY = "The model cache owns what each server holds; repository control is not open to clients."


def check_no_label(model: str, label: str | None) -> None:
    """Raises CallError(UNSUPPORTED) for a version label, which only TF Serving has."""
    if label is not None:
        raise CallError(
            Reason.UNSUPPORTED,
            f"V2 has no version labels, so {quoted(label)} of {quoted(model)} cannot be asked for.",
        )
