"""What ended calls mean for the edge: loads of nodes, demand for models, and how long calls take.

No call is counted twice. One that the server routed was counted when it was: its end tells how long such calls take,
and nothing else. One that the map of known calls sent is counted when it has ended, and then as what it was.
"""

from collections.abc import Callable, Iterable, Sequence

from ext_proc.access_log.entries import EndedCall
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate
from ext_proc.upstream.verdict import TellOutcome
from ext_proc.wire.call import INFERENCE, Call
from mesh.bounded import ByteMemo
from mesh.routing.placement import RESIDENT
from mesh.routing.router import Router

_FAILED = "A call to it failed."


# Seconds; longer than that no call is made to last, since the load would be an old one.
_LASTING = 2.0


class EdgeAccounts:
    """See `service.Accounts`. What it keeps is kept by the router and the estimates, within their bounds."""

    def __init__(
        self,
        router: Router,
        estimates: Estimates,
        sees_all: Callable[[bool], None],
        known_ended: Callable[[str, float], None],
        tell_outcome: TellOutcome,
        record: Callable[[Sequence[EndedCall], float], None] | None = None,
    ) -> None:
        """`sees_all` is told whether the router's demand is that of all calls: once all of it was heard of for so long
        that what came before counts no more. `known_ended` is told of each model of which known calls have ended, and
        when that was. `tell_outcome` hears what became of calls to far nodes, and `record` of all.
        """
        self._record = record
        self._known_ended = known_ended
        self._router = router
        self._estimates = estimates
        self._sees_all = sees_all
        self._tell_outcome = tell_outcome
        self._since = 0.0
        self._hears = False

    def logs(self, count: int, now: float) -> None:
        """See `service.Accounts.logs`."""
        if not count or not self._hears:
            self._since = now
            self._sees_all(False)
        self._hears = count > 0

    def ended(self, calls: Sequence[EndedCall], now: float) -> None:
        """See `Accounts.ended`."""
        if self._record is not None:
            self._record(calls, now)
        router = self._router
        if self._hears and now - self._since > router.demand.memory:
            self._sees_all(True)
        called: dict[str, int] = {}
        busy: dict[str, tuple[int, float]] = {}
        for call, node, known, seconds, answer_seconds, _, count, far, has_answered in calls:
            if far and has_answered is not None:
                self._tell_outcome(far, None if has_answered else _FAILED)
            if known:
                there, lasting = _spread(count, seconds)
                ended, spent = busy.get(node, (0, 0.0))
                busy[node] = ended + there, spent + there * lasting
            if call is None:
                continue
            if known:
                called[call.model] = called.get(call.model, 0) + count
                if answer_seconds is not None:
                    # Of others it is not told whether they waited for a load.
                    candidate = _CANDIDATES[call.model, call.version, call.label]
                    self._estimates.observe(candidate, RESIDENT, 1000 * answer_seconds, now)
            if node and call.verb in INFERENCE:
                router.durations.took(call.model, seconds, now)
        for model, count in called.items():
            router.demand.called(model, now, count)
            self._known_ended(model, now)
        for node, (ended, spent) in busy.items():
            router.known_calls(node, ended, spent / ended, now)

    def running_calls(self, calls: Iterable[Call], now: float) -> None:
        """See `Accounts.running_calls`: the Envoy of an edge tells of none."""


def _spread(calls: int, seconds: float) -> tuple[int, float]:
    """For so many calls that one stands for: fewer that last longer, so that the load they are is the same on average,
    and does not come and go with each of the few that are told of.
    """
    while calls > 1 and seconds < _LASTING:
        calls, seconds = calls // 2, seconds * 2
    return calls, seconds


def _candidate(asked: tuple[str, str | None, str | None]) -> Candidate:
    return Candidate(*asked)


_CANDIDATES = ByteMemo(_candidate)
