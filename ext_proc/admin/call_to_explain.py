"""A call that is to be explained, as the server would see it: both roles read it so."""

from ext_proc.admin.explanation import CallToExplain, NamedCall, Refusal
from ext_proc.contract import NAMED_HEADER
from ext_proc.errors import CallError, TbmsError
from ext_proc.processing.request import BodyMode, Head, Version, read_version
from ext_proc.wire.call import Call
from ext_proc.wire.naming import Unnamed, name_call

_BODILESS = frozenset({"GET", "HEAD"})
_NO_BODY_IS_READ = 0


def read_head(asked: CallToExplain, envoy: Version) -> tuple[Head, Call | None]:
    """The call as the server would see it, and what it asks for (None: no inference). `envoy` where it says none.

    Raises CallError for a call that would be refused for its name, TbmsError for one that does not say its model.
    """
    headers = {**asked.get("headers", {})}
    method = asked.get("method", "POST")
    model = asked.get("model")
    if model is not None:
        headers[NAMED_HEADER] = model
        headers.setdefault("content-type", "application/grpc")
    bodiless = method in _BODILESS
    mode = BodyMode.NONE if bodiless else BodyMode.FULL_DUPLEX
    version = read_version(asked["envoy"]) if "envoy" in asked else envoy
    head = Head({**headers, ":path": asked["path"], ":method": method}, bodiless, mode, version)
    named = name_call(head.headers, _NO_BODY_IS_READ)
    if isinstance(named, Unnamed):
        raise TbmsError("model: the message of this gRPC call names its model; say which one it is")
    return head, named


def named_call(call: Call | None) -> NamedCall | None:
    """The call as the document has it."""
    if call is None:
        return None
    return {
        "protocol": call.protocol,
        "verb": call.verb,
        "model": call.model,
        "version": call.version,
        "label": call.label,
    }


def refusal_of(error: CallError) -> Refusal:
    """The error as the document has it."""
    return {"http": error.reason.http, "grpc": error.reason.grpc.name, "message": error.message}
