"""The replies of a mix's members, made into one reply: each is read as it comes, and they are combined for the answer.

Both go over every byte, and are done off the event loop where there are many. What the race asks in between, whether
the replies fit together, is a look at names, types and shapes.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ext_proc.broker import mix as mixing
from ext_proc.broker.mix import MemberOutputs
from ext_proc.broker.plan import Candidate, Mix
from ext_proc.broker.race import Combine
from ext_proc.errors import CallError, Reason
from ext_proc.http2.headers import Headers
from ext_proc.upstream.client import Response
from ext_proc.wire.call import Call
from ext_proc.wire.output_arrays import Array, OutputError
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from ext_proc.worker_thread import off_loop

logger = logging.getLogger(__name__)

# What goes over numbers as text takes so many times as long as what goes over bytes: measured, 50 ms for a MiB.
_TEXT = 32


@dataclass(frozen=True, slots=True)
class MemberReply:
    """What one member has answered: its outputs, or the error that its reply is to the mix."""

    response: Response
    outputs: Mapping[str, Array] | CallError


@dataclass(frozen=True, slots=True)
class FittingReplies:
    """Replies that can be combined. The first member's carries the combined outputs; all else in it is kept."""

    call: Call
    mix: Mix
    first: Response
    parts: tuple[MemberOutputs, ...]
    limit: int

    async def combined(self) -> Response:
        """One reply of them all. Raises CallError, which names the mix."""
        size = sum(array.nbytes for part in self.parts for array in part.outputs.values())
        return await off_loop(size if self.call.protocol.is_grpc else size * _TEXT, self._combine)

    def _combine(self) -> Response:
        headers = _texts(self.first.headers)
        try:
            outputs = mixing.combine(self.mix.how, self.parts)
            rewritten = encode_outputs(self.call, headers, self.first.body, outputs, self.limit)
        except OutputError as error:
            raise CallError(Reason.BROKEN_MODEL, f"{self.mix.title}: {error}") from error
        except Exception as error:
            raise _mistake(self.mix.title, error) from error
        replaced = {key for key, _ in rewritten.headers} | set(rewritten.removed)
        kept = tuple(pair for pair in self.first.headers if pair[0] not in replaced)
        added = tuple((key, value.encode("latin-1")) for key, value in rewritten.headers)
        return replace(self.first, headers=kept + added, body=rewritten.body)


async def read_member(call: Call, member: Candidate, response: Response, limit: int) -> MemberReply:
    """Reads a member's reply, of at most `limit` bytes once it is plain. What breaks it breaks its mix, when asked."""
    size = len(response.body)
    if not call.protocol.is_grpc:
        packed = any(key == "content-encoding" for key, _ in response.headers)
        size = (limit if packed else size) * _TEXT
    return MemberReply(response, await off_loop(size, _outputs, call, member, response, limit))


def _outputs(call: Call, member: Candidate, response: Response, limit: int) -> Mapping[str, Array] | CallError:
    try:
        return decode_outputs(call, _texts(response.headers), response.body, limit)
    except OutputError as error:
        return CallError(Reason.BROKEN_MODEL, f"{member.title}: {error}")
    except Exception as error:
        return _mistake(member.title, error)


def fitting(call: Call, limit: int) -> Combine:
    """What a race asks of the replies of a mix (`MemberReply`, by member): FittingReplies, or CallError.

    The error names the member, and the output that differs. It is that mix's failure, nothing else's.
    """

    def fit(mix: Mix, replies: Mapping[int, MemberReply]) -> FittingReplies:
        parts = []
        for at, reply in sorted(replies.items()):
            if isinstance(reply.outputs, CallError):
                raise reply.outputs
            parts.append(MemberOutputs(mix.members[at].title, mix.members[at].weight, reply.outputs))
        mixing.check(parts)
        return FittingReplies(call, mix, replies[min(replies)].response, tuple(parts), limit)

    return fit


def _mistake(title: str, error: Exception) -> CallError:
    """For a mistake of ours; to be called in its handler."""
    logger.exception("mix failed", extra={"model": title})
    return CallError(Reason.INTERNAL, f"{title}: the replies cannot be combined: {type(error).__name__}.")


def _texts(headers: Headers) -> dict[str, str]:
    return {key: value.decode("latin-1") for key, value in headers}
