"""The external processor: one session of the machine for each stream that Envoy opens.

A plain call is one message in and one message out, handled in the callback that brought it: no task, no
queue. Only a held call gets a task, which ends with the stream.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from ext_proc.contract import ENVOY_AUTHORITY
from ext_proc.errors import CallError
from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2.session import Stream
from ext_proc.processing.decision import Decision, Held, Refuse
from ext_proc.processing.machine import Machine, State
from ext_proc.processing.policy import RequestPolicy
from ext_proc.processing.request import NEWEST, StreamError, Version, read_version
from ext_proc.telemetry.metrics import ANSWERED, BODY, CANCELLED, NOTHING, PASSED, REFUSED, ROUTED, WORK, Metrics
from ext_proc.telemetry.refusals import Refusals
from ext_proc.telemetry.tallies import Labels

logger = logging.getLogger(__name__)

_DECIDED: Final = (State.RELEASED, State.PIPING, State.ENDED)


class Tasks(Protocol):
    """Owns tasks: `CallTasks`, or a task group."""

    def create_task(self, work: Coroutine[Any, Any, None], /) -> asyncio.Task[None]:
        """A task that does the work."""


class ExtProcService:
    """The sessions of `ExternalProcessor.Process`, and what they share.

    `tasks` owns the tasks of held calls; `clock` in seconds, monotonic.
    """

    def __init__(
        self,
        policy: RequestPolicy,
        metrics: Metrics,
        refusals: Refusals,
        tasks: Tasks,
        clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.metrics = metrics
        self.refusals = refusals
        self.tasks = tasks
        self.clock = clock

    def open(self, stream: Stream) -> "ExtProcStream":
        """A session for one stream."""
        return ExtProcStream(stream, self)


class ExtProcStream:
    """One stream. Completion and cancellation look alike to Envoy's side, hence `_settle`, which counts once."""

    __slots__ = ("_begun", "_counted", "_machine", "_service", "_stream", "_task", "_turn")

    def __init__(self, stream: Stream, service: ExtProcService) -> None:
        self._machine = Machine(service.policy, _envoy_of(stream.metadata.get(":authority", "")))
        self._stream = stream
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._turn: asyncio.Handle | None = None  # the next portion of a long body
        self._counted = False
        self._begun: float | None = None  # when its first message came, until the call is decided
        service.metrics.streams += 1

    def message(self, data: bytes) -> None:
        """One message of Envoy's."""
        machine = self._machine
        try:
            now = self._service.clock()
            first = machine.state is State.START
            if first:
                self._begun = now
            replies = machine.receive(data, now)
        except StreamError as error:
            logger.warning("stream refused", extra={"cause": str(error)})
            self._end(GrpcStatus.INVALID_ARGUMENT, str(error))
            return
        except Exception:
            self._broken()
            return
        for reply in replies:
            self._stream.send(reply)
        if self._begun is not None and machine.state in _DECIDED:
            self._decided(NOTHING if first else BODY)
        self._follow()

    def half_closed(self) -> None:
        """Envoy will send no more. While a call is held this means that its client went away."""
        self._cancel()
        self._end()

    def gone(self) -> None:
        """Reset, or the connection is lost: the client went away, or Envoy did."""
        self._cancel()
        self._settle()

    def _cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _follow(self) -> None:
        """What the last step of the machine asks for beyond messages."""
        machine = self._machine
        if machine.waits:
            if self._turn is None:
                self._turn = asyncio.get_running_loop().call_soon(self._go_on)
        elif machine.held is not None:
            if self._task is None:
                self._task = self._service.tasks.create_task(self._resolve())
        elif machine.state is State.ENDED:
            if machine.refusal is not None:
                self._service.refusals.add(machine.refusal, self._whose())
            self._end()

    def _go_on(self) -> None:
        """The next part of a long body; the loop has done in between what else there was."""
        self._turn = None
        if self._counted:
            return
        try:
            replies = self._machine.go_on(self._service.clock())
        except Exception:
            self._broken()
            return
        for reply in replies:
            self._stream.send(reply)
        if self._begun is not None and self._machine.state in _DECIDED:
            self._decided(BODY)
        self._follow()

    def _held(self, held: Held) -> Held:
        """The held call as the policy gets it."""
        return held

    async def _resolve(self) -> None:
        """Awaits the decision of a held call."""
        machine = self._machine
        try:
            while machine.held is not None:
                decision: Decision
                try:
                    decision = await self._service.policy.resolve(self._held(machine.held))
                except CallError as error:
                    decision = Refuse(error)
                for reply in machine.decided(decision):
                    self._stream.send(reply)
        except Exception:
            self._task = None
            self._broken()
            return
        self._task = None
        if self._begun is not None:
            self._decided(WORK)
        self._follow()

    def _decided(self, waited: Labels) -> float | None:
        """The call is decided, and what it took of us until then, in seconds, is counted, once."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        seconds = self._service.clock() - begun
        self._service.metrics.decisions.observe(waited, seconds)
        return seconds

    def _end(self, code: int = GrpcStatus.OK, details: str = "") -> None:
        self._stream.finish(code, details)
        self._settle()

    def _broken(self) -> None:
        logger.exception("stream failed", extra=self._whose())
        self._end(GrpcStatus.INTERNAL, "the server failed on this call")

    def _settle(self) -> None:
        """The call is over, as far as we hear of it: what it held is given back and it is counted, once."""
        if self._counted:
            return
        self._counted = True
        metrics, machine = self._service.metrics, self._machine
        metrics.streams -= 1
        if machine.lease is not None:
            machine.lease.release()
        metrics.count(machine.call, outcome_of(machine))

    def _whose(self) -> dict[str, Any]:
        head, call = self._machine.head, self._machine.call
        return {
            "request_id": head.headers.get("x-request-id") if head else None,
            "model": call.model if call else None,
        }


def _envoy_of(authority: str) -> Version:
    """The version of the Envoy that has opened a stream."""
    return read_version(authority[len(ENVOY_AUTHORITY) :]) if authority.startswith(ENVOY_AUTHORITY) else NEWEST


def outcome_of(machine: Machine) -> str:
    """How a call ended for us, or how it stands; see `ext_proc.telemetry.metrics`."""
    if machine.state is State.ENDED:
        return ANSWERED if machine.refusal is None else REFUSED
    if machine.route is not None:
        return ROUTED
    return PASSED if machine.state in (State.RELEASED, State.PIPING) else CANCELLED
