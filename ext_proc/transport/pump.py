"""The shell around the stream machine: reads, asks the machine, writes. One coroutine a stream."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from ext_proc.errors import CallError
from ext_proc.stream.decision import Decision, Held
from ext_proc.stream.events import NEWEST, StreamError, Version, read_version
from ext_proc.stream.machine import Desk, Machine, State
from ext_proc.telemetry import metrics
from ext_proc.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

# Set by the filter's grpc_service.initial_metadata; see ext_proc.envoy_config.
VERSION_METADATA = "x-tbms-envoy"


class Front(Desk, Protocol):
    """A desk with the accounts that the pump keeps for it."""

    async def resolve(self, held: Held) -> Decision:
        """Decides a held call. Cancelled when the client goes away."""

    def started(self, account: Any) -> None:
        """A call was let through under this account."""

    def finished(self, account: Any) -> None:
        """A call that was started is over, or over as far as Envoy tells us."""


class Pump:
    """Handles the streams of `ExternalProcessor.Process`; messages stay bytes on both sides."""

    def __init__(self, front: Front, tally: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._front = front
        self._metrics = tally
        self._clock = clock

    async def process(self, _requests: Any, context: Any) -> None:
        """One stream. Completion and cancellation look alike in a pending read, hence `finished`."""
        machine = Machine(self._front, _envoy(context))
        self._metrics.streams += 1
        counted: Any = None
        finished = False
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                replies = machine.receive(data, self._clock())
                if counted is None and machine.account is not None:
                    counted = machine.account
                    self._front.started(counted)
                for reply in replies:
                    await context.write(reply)
                while machine.held is not None:
                    for reply in machine.decided(await self._front.resolve(machine.held)):
                        await context.write(reply)
                if machine.state is State.ENDED:
                    if machine.refusal is not None:
                        _log_refusal(machine, machine.refusal)
                    break
            finished = machine.state in (State.RELEASED, State.ENDED)
        except StreamError as error:
            logger.warning("stream refused", extra={"cause": str(error)})
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception:
            logger.exception("stream failed", extra=_whose(machine))
            await context.abort(grpc.StatusCode.INTERNAL, "the server failed on this call")
        finally:
            self._metrics.streams -= 1
            if counted is not None:
                self._front.finished(counted)
            self._metrics.count(machine.call, _outcome(machine, finished))


def _envoy(context: Any) -> Version:
    """The Envoy that the filter's configuration was made for, as the filter tells it."""
    for key, value in context.invocation_metadata():
        if key == VERSION_METADATA:
            return read_version(value)
    return NEWEST


def _outcome(machine: Machine, finished: bool) -> str:
    if machine.state is State.ENDED:
        return metrics.ANSWERED if machine.refusal is None else metrics.REFUSED
    if machine.route is not None:
        return metrics.ROUTED
    if finished:
        return metrics.PASSED
    return metrics.CANCELLED


def _log_refusal(machine: Machine, error: CallError) -> None:
    # What a client did wrong is the client's to read; what we or the fleet lack is the operator's.
    level = logging.WARNING if error.reason.http >= 500 else logging.DEBUG
    if logger.isEnabledFor(level):
        logger.log(level, "call refused", extra={"cause": error.message, **_whose(machine)})


def _whose(machine: Machine) -> dict[str, Any]:
    head = machine.head
    return {
        "request_id": head.headers.get("x-request-id") if head else None,
        "model": machine.call.model if machine.call else None,
    }
