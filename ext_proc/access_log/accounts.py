"""What ended calls mean for the edge: loads of nodes, demand for models, and how long calls take.

No call is counted twice. One that the server routed was counted when it was: its end tells how long such calls take,
and nothing else. One that the map of known calls sent is counted when it has ended, and then as what it was.
"""

from collections import Counter
from collections.abc import Iterable

from ext_proc.access_log.entries import EndedCall
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate
from ext_proc.wire.call import Call, Verb
from mesh.routing.placement import RESIDENT
from mesh.routing.router import Router

_INFERENCE = frozenset(
    {Verb.PREDICT, Verb.INFER, Verb.CLASSIFY, Verb.REGRESS, Verb.MULTI_INFERENCE, Verb.SESSION_RUN, Verb.STREAM_INFER}
)


class EdgeAccounts:
    """See `service.Accounts`. What it keeps is kept by the router and the estimates, within their bounds."""

    def __init__(self, router: Router, estimates: Estimates) -> None:
        self._router = router
        self._estimates = estimates

    def ended(self, calls: Iterable[EndedCall], now: float) -> None:
        """See `Accounts.ended`."""
        router = self._router
        called: Counter[str] = Counter()
        busy: dict[str, list[float]] = {}
        for call, node, known, seconds, answer_seconds in calls:
            if known:
                busy.setdefault(node, []).append(seconds)
            if call is None:
                continue
            if known:
                called[call.model] += 1
                if answer_seconds is not None:
                    # Of others it is not told whether they waited for a load.
                    self._estimates.observe(_candidate(call), RESIDENT, 1000 * answer_seconds, now)
            if node and call.verb in _INFERENCE:
                router.durations.took(call.model, seconds, now)
        for model, count in called.items():
            router.demand.called(model, now, count)
        for node, times in busy.items():
            router.known_calls(node, len(times), sum(times) / len(times), now)


def _candidate(call: Call) -> Candidate:
    return Candidate(call.model, call.version, call.label)
