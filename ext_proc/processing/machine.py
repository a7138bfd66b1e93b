"""One stream of Envoy's, as a pure machine: messages in, messages out.

Envoy opens a stream for each request and sends its headers. What follows depends on the body mode that
the first message tells (`protocol_config`), and on whether the headers name the model:

    NONE, named          headers -> route. The body never leaves Envoy.
    NONE, not named      headers -> override to FULL_DUPLEX_STREAMED (Envoy >= 1.40), then as below.
    FULL_DUPLEX          headers and body chunks come in; nothing is sent until the call is named and decided;
                         then the headers' reply with the route, the chunks so far, and every later chunk.
    BUFFERED             headers -> continue, body -> route or answer (Envoy 1.36, REST calls with a limit).

The machine never reads a clock and never waits. A decision that takes time is a `Hold`: the shell finds
the call in `held`, awaits whatever it takes, and brings the outcome to `decided`.
"""

from enum import Enum, auto

from ext_proc.contract import RESIDENCY_ASK, RESIDENCY_HEADER, STEERING_HEADERS
from ext_proc.errors import CallError, Reason, kept
from ext_proc.processing import response
from ext_proc.processing.body import Body
from ext_proc.processing.decision import Decision, HeaderMutation, Held, Hold, Lease, Pass, Refuse, Respond, Route
from ext_proc.processing.policy import RequestPolicy
from ext_proc.processing.request import (
    NEWEST,
    BodyMode,
    Head,
    ReplyPart,
    StreamError,
    Version,
    head_of,
    parse,
    plain_head,
)
from ext_proc.protos.ext_proc_pb2 import HttpBody
from ext_proc.wire.call import Call, InferenceProtocol
from ext_proc.wire.content_type import is_grpc
from ext_proc.wire.naming import Unnamed, name_call
from ext_proc.wire.reply import error_reply
from mesh.digits import number

_ASK = ((RESIDENCY_HEADER, RESIDENCY_ASK),)
_NOWHERE = Route(nodes=())


class State(Enum):
    """Where the stream stands."""

    START = auto()  # nothing has come yet
    NAMING = auto()  # the body is read until it names the model
    COLLECTING = auto()  # the whole body is gathered
    HELD = auto()  # the decision is awaited
    PIPING = auto()  # released; the rest of the body is handed through
    RELEASED = auto()  # nothing more of the request is ours
    ENDED = auto()  # answered by us


class Machine:
    """The state of one stream. `receive` and `decided` return the messages to send, in order."""

    __slots__ = (
        "_body",
        "_call",
        "_envoy",
        "_head",
        "_headers_continued",
        "_hold",
        "_policy",
        "_remove",
        "_through",
        "_unnamed",
        "held",
        "lease",
        "refusal",
        "route",
        "state",
    )

    def __init__(self, policy: RequestPolicy, envoy: Version = NEWEST) -> None:
        self._policy = policy
        self._envoy = envoy
        self._hold: Hold | None = None
        self.state = State.START
        self.held: Held | None = None
        self.lease: Lease | None = None
        self.route: Route | None = None
        self.refusal: CallError | None = None
        self._through: Pass | Route | None = None
        self._head: Head | None = None
        self._body = Body()
        self._remove: tuple[str, ...] = ()
        self._unnamed: Unnamed | None = None
        self._call: Call | None = None
        self._headers_continued = False  # the headers were let through already, so that a buffered body comes

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """Takes one message from Envoy. Raises StreamError if it is not to be understood."""
        try:
            if self.state is State.START and (head := plain_head(data, self._envoy)) is not None:
                return self._on_headers(head, now)
            message = parse(data)
            kind = message.WhichOneof("request")
            if kind == "request_headers":
                return self._on_headers(head_of(message, self._envoy), now)
            if kind == "request_body":
                return self._on_body(message.request_body, now)
            if kind == "request_trailers":
                return self._on_trailers(now)
        except CallError as error:
            return self._refuse(error)
        if kind == "response_headers":
            change = self._on_reply(ReplyPart(message), now)
            return [response.CONTINUE_RESPONSE_HEADERS if change is None else response.continue_reply(change)]
        if kind == "response_trailers":
            self._on_reply(ReplyPart(message), now)
            return [response.CONTINUE_RESPONSE_TRAILERS]
        raise StreamError(f"a message of kind {kind} was not asked for")

    def decided(self, decision: Decision) -> list[bytes]:
        """Ends a Hold with what was decided."""
        if self.state is not State.HELD:
            raise StreamError("a decision came for a call that is not held")
        self.held = None
        return self._apply(decision)

    @property
    def waits(self) -> bool:
        """Whether `go_on` has something to do: long bodies are worked on by parts, and other calls in between."""
        if self.state is State.NAMING:
            return self._unnamed is not None and self._unnamed.waits
        return self.state in (State.PIPING, State.RELEASED) and self._body.waits

    def go_on(self, now: float) -> list[bytes]:
        """The next part of what `waits`: a body is read on for its model, or handed on."""
        if self.state is not State.NAMING:
            return self._body.hand_on()
        assert self._unnamed is not None
        try:
            return self._named_by(self._unnamed.go_on(), now)
        except CallError as error:
            return self._refuse(error)

    @property
    def head(self) -> Head | None:
        """The request's head, once it has come."""
        return self._head

    @property
    def call(self) -> Call | None:
        """What the request asks for, once it is named."""
        return self._call

    def _on_headers(self, head: Head, now: float) -> list[bytes]:
        if self.state is not State.START:
            raise StreamError("request headers came twice")
        self._head = head
        self._body.mode, self._body.ended = head.mode, head.end_of_stream
        headers = head.headers
        self._remove = tuple([name for name in STEERING_HEADERS if name in headers])
        limit = self._policy.body_limit
        named = name_call(headers, limit)
        if named is None:
            return self._apply(Pass())
        if isinstance(named, Call):
            return self._decide(named, now)
        self._unnamed = named
        if head.end_of_stream:
            return self._named_by(named.feed(b"", True), now)
        self.state = State.NAMING
        return self._open_body()

    def _on_reply(self, reply: ReplyPart, now: float) -> HeaderMutation | None:
        if self._head is None or self._call is None or self._through is None:
            return None
        return self._policy.replied(self._through, self._head, self._call, reply, now)

    def _check_length(self) -> None:
        """Refuses a body that says how long it is before it is sent, where it is to be here as a whole."""
        declared, limit = self._declared(), self._policy.body_limit
        if declared > limit:
            raise CallError(Reason.TOO_LARGE, f"the body of {declared} bytes is over the limit of {limit} bytes")

    def _declared(self) -> int:
        """How long the body says that it is, in bytes; 0 where it does not."""
        assert self._head is not None
        return number(self._head.headers.get("content-length", ""), 19) or 0

    def _open_body(self) -> list[bytes]:
        """What makes Envoy send the body."""
        if self._body.mode is BodyMode.NONE:
            if self._envoy < (1, 40):  # it would answer 500; the matcher in front of the filter should have sent it
                raise CallError(Reason.UNSUPPORTED, "this Envoy's filter does not send the body that the call needs")
            self._body.mode = BodyMode.FULL_DUPLEX
            to_the_end = self._policy.follows_replies
            return [response.OVERRIDE_TO_THE_END if to_the_end else response.OVERRIDE_TO_FULL_DUPLEX]
        if self._body.mode is BodyMode.BUFFERED:
            self._headers_continued = True
            return [response.continue_headers((), self._remove)]
        return []

    def _on_body(self, chunk: HttpBody, now: float) -> list[bytes]:
        state, last, body = self.state, chunk.end_of_stream, self._body
        if state is State.PIPING:
            if last:
                self.state = State.RELEASED
            if body.waits:
                body.follow(chunk.body, last)
                return []
            body.ended = last
            return [response.stream_body(chunk.body, last)]
        if body.ended or state in (State.RELEASED, State.ENDED):
            # Envoy may repeat the last chunk (envoyproxy/envoy issue 46237); a buffered body of a call that
            # was released by its headers wants to be let through all the same.
            return [response.CONTINUE_BODY] if body.mode is BodyMode.BUFFERED else []
        if state is State.START:
            raise StreamError("a body came before the headers")
        body.keep(chunk.body, last)
        hold = self._hold
        if state is State.COLLECTING and hold is not None and hold.otherwise is not None and body.size > hold.most:
            return self._apply(hold.otherwise)
        if state is not State.NAMING:
            body.check(self._policy.body_limit)
        out = self._grown(chunk.body, last, now)
        if self.state is State.NAMING:  # the chunk has not named the call, and is to be kept
            body.check(self._policy.body_limit)
        return out

    def _on_trailers(self, now: float) -> list[bytes]:
        state = self.state
        if state is State.START:
            raise StreamError("trailers came before the headers")
        if state in (State.PIPING, State.RELEASED):
            self.state = State.RELEASED
            if self._body.waits:
                self._body.trailed()
                return []
            return [response.CONTINUE_TRAILERS]
        self._body.trailed()
        return self._grown(b"", True, now)

    def _grown(self, chunk: bytes, last: bool, now: float) -> list[bytes]:
        """More of the body is here: name the call, or collect on."""
        if self.state is State.NAMING and self._unnamed is not None:
            return self._named_by(self._unnamed.feed(chunk, last), now)
        if self.state is State.COLLECTING and last:
            self._collected()
        return []

    def _named_by(self, call: Call | None, now: float) -> list[bytes]:
        if call is None:  # with the whole body here: it needs no model (the statistics of all)
            done = self._body.ended and not (self._unnamed is not None and self._unnamed.waits)
            return self._apply(Pass()) if done else []
        self._unnamed = None
        return self._decide(call, now)

    def _decide(self, call: Call, now: float) -> list[bytes]:
        assert self._head is not None
        self._call = call
        return self._apply(self._policy.decide(self._head, call, now))

    def _apply(self, decision: Decision) -> list[bytes]:
        if isinstance(decision, Route):
            self.route = self._through = decision
            self.lease = decision.lease
            return self._release(decision)
        if isinstance(decision, Pass):
            self._through = decision
            self.lease = decision.lease
            return self._release(_NOWHERE)
        if isinstance(decision, Refuse):
            return self._refuse(decision.error)
        if isinstance(decision, Respond):
            self.state = State.ENDED
            self._body.drop()
            return response.answer(decision)
        return self._wait(decision)

    def _wait(self, hold: Hold) -> list[bytes]:
        self._hold = hold
        if hold.otherwise is not None:
            if max(self._body.size, self._declared()) > hold.most:
                return self._apply(hold.otherwise)
        else:
            self._body.check(self._policy.body_limit)
        if not hold.collect or self._body.ended:
            self._collected()
            return []
        self._check_length()
        opened = self.state in (State.NAMING, State.COLLECTING)
        self.state = State.COLLECTING
        return [] if opened else self._open_body()

    def _collected(self) -> None:
        assert self._head is not None
        assert self._call is not None
        self.state = State.HELD
        self.held = Held(self._head, self._call, self._body.whole(), None if self._hold is None else self._hold.context)

    def _release(self, route: Route) -> list[bytes]:
        if self._headers_continued:
            # Only a gRPC call has its name in the body, and no filter of ours buffers those.
            assert route.body is None, "a body that was buffered cannot be replaced"
            self.state = State.RELEASED
            self._body.drop()
            return [response.continue_buffered(route.nodes, route.headers)]
        if route.body is not None:
            self._body.replace(route.body)
            # A length that no longer holds would let the rest of the body pass for a request (smuggling).
            self._remove += ("content-length",)
        remove = self._remove
        if route.keeps:
            remove = tuple([name for name in remove if name not in route.keeps])
        # Before 1.40 a filter that streams bodies takes no other mode.
        mode = self._body.mode
        if route.wants_residency and (mode is BodyMode.NONE or self._envoy >= (1, 40)):
            out = [response.continue_and_hear(route.nodes, remove, route.headers + _ASK, mode)]
        else:
            out = [response.continue_headers(route.nodes, remove, route.headers)]
        if mode is not BodyMode.FULL_DUPLEX:
            self.state = State.RELEASED
            self._body.drop()
            return out
        self.state = State.RELEASED if self._body.ended else State.PIPING
        return out + self._body.hand_on()

    def _refuse(self, error: CallError) -> list[bytes]:
        self.state = State.ENDED
        self.refusal = kept(error)
        self._body.drop()
        return [response.immediate(error_reply(self._protocol(), error))]

    def _protocol(self) -> InferenceProtocol | None:
        """The protocol that an error is worded in; None where not even that is known."""
        if self._call is not None:
            return self._call.protocol
        if self._unnamed is not None:
            return self._unnamed.protocol
        content_type = "" if self._head is None else self._head.headers.get("content-type", "")
        return InferenceProtocol.TFS_GRPC if is_grpc(content_type) else None
