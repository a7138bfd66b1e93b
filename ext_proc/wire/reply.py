"""A refusal in the words of the call's own protocol, so that a client cannot tell it from its server's."""

import json
import math
from dataclasses import dataclass

from ext_proc.contract import ELSEWHERE_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import InferenceProtocol

RETRY_AFTER = 1  # seconds
"""On an error of a node: it has not served the call, and another may. An edge's Envoy asks the next one, and takes
it off what clients get."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is given at once.

    For gRPC, `grpc_status` is set and `body` is the message in UTF-8: Envoy makes the trailers from both, and the
    HTTP status 200 of its own.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    grpc_status: int | None = None


def error_reply(protocol: InferenceProtocol | None, error: CallError) -> Reply:
    """What the client gets for this error; `protocol` is None where not even that is known."""
    reason = error.reason
    again = _again(error) + (((ELSEWHERE_HEADER, "1"),) if error.elsewhere else ())
    if protocol is not None and protocol.is_grpc:
        return Reply(reason.http, again, error.message.encode(errors="backslashreplace"), reason.grpc)
    return Reply(reason.http, (("content-type", "application/json"), *again), _json(protocol, error.message))


def _again(error: CallError) -> tuple[tuple[str, str], ...]:
    """Whole seconds, as HTTP wants them: rounded up, so that nobody comes too early."""
    if error.retry_after is not None:
        return (("retry-after", str(max(math.ceil(error.retry_after), 1))),)
    return (("retry-after", str(RETRY_AFTER)),) if error.reason is Reason.OVERLOADED else ()


def _json(protocol: InferenceProtocol | None, message: str) -> bytes:
    """TF Serving indents its JSON by four spaces; Triton writes it without a space."""
    if protocol is InferenceProtocol.TFS_REST:
        text = json.dumps({"error": message}, ensure_ascii=False, indent=4)
    else:
        text = json.dumps({"error": message}, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")
