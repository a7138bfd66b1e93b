"""A refusal in the words of the call's own protocol, so that a client cannot tell it from its server's."""

import math
from dataclasses import dataclass

from ext_proc.contract import ANSWER_HEADER, ELSEWHERE_HEADER, NOBODY_ANSWERED
from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.codecs import CODECS

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
    """What the client gets for this error; `protocol` is None where not even that is known: then it is V2's JSON."""
    reason = error.reason
    again = _again(error) + (((ELSEWHERE_HEADER, "1"),) if error.elsewhere else ())
    if error.why is not None:
        again += ((ANSWER_HEADER, f"{NOBODY_ANSWERED};why={error.why}"),)
    spoken = protocol or InferenceProtocol.V2_REST
    body = CODECS[spoken].error_body(error.message)
    if spoken.is_grpc:
        return Reply(reason.http, again, body, reason.grpc)
    return Reply(reason.http, (("content-type", "application/json"), *again), body)


def _again(error: CallError) -> tuple[tuple[str, str], ...]:
    """Whole seconds, as HTTP wants them: rounded up, so that nobody comes too early."""
    if error.retry_after is not None:
        return (("retry-after", str(max(math.ceil(error.retry_after), 1))),)
    return (("retry-after", str(RETRY_AFTER)),) if error.reason is Reason.OVERLOADED else ()
