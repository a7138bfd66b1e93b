"""From the outcome of a race to the answer that the client gets."""

from dataclasses import replace

from ext_proc.broker import effects
from ext_proc.broker.answer_header import answer_header
from ext_proc.broker.effects import Fail, Outcome, Why
from ext_proc.broker.plan import Plan
from ext_proc.contract import ANSWER_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held, Respond
from ext_proc.upstream.client import Response
from ext_proc.upstream.handing_on import GRPC, handed_on
from ext_proc.upstream.headers import write_status
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.reply import error_reply


def compose(held: Held, plan: Plan, outcome: Outcome) -> Respond:
    """The answer with its `tbms-answer` header; headers and trailers of the winner are kept."""
    protocol = held.call.protocol
    if isinstance(outcome, effects.Answer):
        response: Response = outcome.payload
        return _response(response, protocol, answer_header(plan, outcome, response.node or None))
    header = answer_header(plan, outcome)
    if isinstance(outcome, effects.Fallback):
        answer = outcome.answer
        headers: Headers = (("content-type", answer.content_type.encode("latin-1")),)
        trailers: Headers | None = (("grpc-status", b"0"),) if protocol.is_grpc else None
        return _response(Response(200, headers, answer.body, trailers), protocol, header)
    if isinstance(outcome.error, Response):
        return _response(outcome.error, protocol, header)
    return _error(_cause(plan, outcome), protocol, header)


def _response(response: Response, protocol: InferenceProtocol, header: str) -> Respond:
    told = ((ANSWER_HEADER, header.encode("ascii")),)
    if any(key == ANSWER_HEADER for key, _ in response.headers):
        headers = tuple([pair for pair in response.headers if pair[0] != ANSWER_HEADER])
        response = replace(response, headers=headers)
    return handed_on(response, protocol, told)


def _cause(plan: Plan, outcome: Fail) -> CallError:
    if isinstance(outcome.error, CallError):
        return outcome.error
    if outcome.why is Why.EXPIRED:
        return CallError(Reason.DEADLINE, f"the limit of {plan.limit_ms:g} ms had passed before a model was asked")
    if outcome.error is None:
        return CallError(Reason.DEADLINE, f"no model answered within the limit of {plan.limit_ms:g} ms")
    return CallError(Reason.UNAVAILABLE, str(outcome.error))


def _error(error: CallError, protocol: InferenceProtocol, header: str) -> Respond:
    told = ((ANSWER_HEADER, header.encode("ascii")),)
    if protocol.is_grpc:
        return Respond(200, GRPC + told, b"", write_status(error.reason.grpc, error.message))
    reply = error_reply(protocol, error)
    return Respond(
        reply.status, tuple((key, value.encode("latin-1")) for key, value in reply.headers) + told, reply.body
    )
