"""The span of a call: from the first message of its stream until it is decided, with all that it was held for."""

from ext_proc.errors import CallError
from ext_proc.processing.decision import Route
from ext_proc.processing.request import Head
from ext_proc.tracing.tracer import Attribute, Attributes
from ext_proc.wire.call import Call

NAME = "tbms.decide"
NOTHING: Attributes = {}


class DecisionNotes:
    """What a role says of the decision that it takes at this moment, for the span of the call that it is about.

    A decision is taken within one callback, so that whoever asks for it finds in `last` what was said of it.
    """

    def __init__(self) -> None:
        self.last = NOTHING


def call_attributes(head: Head | None, call: Call | None, route: Route | None, outcome: str, waited: str) -> Attributes:
    """What is known of a call when it is decided, or over."""
    told: dict[str, Attribute] = {"tbms.outcome": outcome}
    if waited:
        told["tbms.waited"] = waited
    if call is not None:
        told |= model_attributes(call.model, call.version, call.label)
        told |= {"tbms.protocol": str(call.protocol), "tbms.verb": str(call.verb)}
    if route is not None:
        told["tbms.nodes"] = route.nodes
    request_id = None if head is None else head.headers.get("x-request-id")
    if request_id is not None:
        told["tbms.request_id"] = request_id
    return told


def model_attributes(model: str, version: str | int | None = None, label: str | None = None) -> dict[str, Attribute]:
    """A model as spans name it."""
    told: dict[str, Attribute] = {"tbms.model": model}
    if version is not None:
        told["tbms.version"] = str(version)
    if label is not None:
        told["tbms.label"] = label
    return told


def error_of(error: BaseException | None) -> str:
    """Why something failed, in one word, or nothing."""
    if isinstance(error, CallError):
        return error.reason.name.lower()
    return "" if error is None else type(error).__name__
