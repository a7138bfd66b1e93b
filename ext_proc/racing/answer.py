"""From the outcome of a race to the answer that the client gets."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from ext_proc.broker import effects
from ext_proc.broker import mix as mixing
from ext_proc.broker.answer_header import answer_header
from ext_proc.broker.effects import Fail, Outcome, Why
from ext_proc.broker.plan import Candidate, Mix, Plan
from ext_proc.broker.race import Combine
from ext_proc.contract import ANSWER_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held, Respond
from ext_proc.upstream.client import Response
from ext_proc.upstream.handing_on import GRPC, handed_on
from ext_proc.upstream.headers import write_status
from ext_proc.wire.call import Call, InferenceProtocol
from ext_proc.wire.output_arrays import OutputError
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from ext_proc.wire.reply import error_reply

logger = logging.getLogger(__name__)


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
    headers = tuple(pair for pair in response.headers if pair[0] != ANSWER_HEADER) + told
    return handed_on(replace(response, headers=headers), protocol)


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


def combiner(call: Call, limit: int) -> Combine:
    """What makes one response of those of a mix. A reply that breaks it is that mix's failure, nothing else's."""

    def combined(mix: Mix, payloads: Mapping[int, Response]) -> Response:
        try:
            return combine(call, mix, payloads, limit)
        except CallError:
            raise
        except Exception as error:
            logger.exception("mix failed", extra={"model": mix.title})
            cause = f"{mix.title}: the replies cannot be combined: {type(error).__name__}."
            raise CallError(Reason.INTERNAL, cause) from error

    return combined


def combine(call: Call, mix: Mix, payloads: Mapping[int, Response], limit: int) -> Response:
    """One response of those of a mix's members, by member. Raises CallError naming the member and the output.

    The first member's response carries the combined outputs; the rest of it (names, ids, headers) is kept.
    """
    parts = [_part(call, mix.members[member], response, limit) for member, response in sorted(payloads.items())]
    first = payloads[min(payloads)]
    headers = _texts(first.headers)
    try:
        rewritten = encode_outputs(call, headers, first.body, mixing.combine(mix.how, parts), limit)
    except OutputError as error:
        raise CallError(Reason.BROKEN_MODEL, f"{mix.title}: {error}") from error
    replaced = {key for key, _ in rewritten.headers} | set(rewritten.removed)
    kept = tuple(pair for pair in first.headers if pair[0] not in replaced)
    added = tuple((key, value.encode("latin-1")) for key, value in rewritten.headers)
    return replace(first, headers=kept + added, body=rewritten.body)


def _part(call: Call, member: Candidate, response: Response, limit: int) -> mixing.MemberOutputs:
    try:
        outputs = decode_outputs(call, _texts(response.headers), response.body, limit)
    except OutputError as error:
        raise CallError(Reason.BROKEN_MODEL, f"{member.title}: {error}") from error
    return mixing.MemberOutputs(member.title, member.weight, outputs)


def _texts(headers: Headers) -> dict[str, str]:
    return {key: value.decode("latin-1") for key, value in headers}
