"""The spans of a race and of its candidates, made of the race's own log once it is over."""

from dataclasses import dataclass, field

from ext_proc.broker.effects import Answer, Fallback
from ext_proc.broker.fates import Fate, fates_of
from ext_proc.broker.log import Note
from ext_proc.broker.plan import members
from ext_proc.broker.race import Race
from ext_proc.broker.ranks import ranks_of
from ext_proc.broker.schedule import micros
from ext_proc.tracing.calls import model_attributes
from ext_proc.tracing.tracer import Attribute, Attributes, Kind, Tracer
from mesh.trace_context import TraceContext

RACE, CANDIDATE = "tbms.race", "tbms.candidate"


@dataclass(slots=True)
class CandidateTrace:
    """The span of one candidate's call, and the nodes that it was placed on: more than one where it was sent again."""

    context: TraceContext
    nodes: list[str] = field(default_factory=list)


class RaceTrace:
    """One race of a traced call, made under the span `caller`."""

    def __init__(self, tracer: Tracer, caller: TraceContext) -> None:
        self._tracer = tracer
        self._caller = caller
        self._context = tracer.under(caller)
        self._candidates: dict[tuple[int, int], CandidateTrace] = {}

    def candidate(self, rank: int, member: int) -> CandidateTrace:
        """The span of a candidate's call that goes out now."""
        made = self._candidates[rank, member] = CandidateTrace(self._tracer.under(self._context))
        return made

    def ended(self, race: Race) -> None:
        """The race is over, well or not: its spans and those of its candidates."""
        arrival = race.arrival
        begun, ended = _times(race.log)
        error = _error(race)
        self._tracer.ended(
            RACE, self._context, self._caller, arrival + begun, arrival + ended, _of_race(race), error=error
        )
        planned = [rank.due for rank in ranks_of(race.plan, race.estimates, *_limits(race))]
        for (rank, member), call in fates_of(race).items():
            trace = self._candidates.get((rank, member))
            if trace is None:
                continue
            candidate = members(race.plan.candidates[rank])[member]
            told: dict[str, Attribute] = {
                **model_attributes(candidate.model, candidate.version, candidate.label),
                "tbms.rank": rank,
                "tbms.member": member,
                "tbms.fate": str(call.fate),
                "tbms.start_ms": call.begun / 1000,
                "tbms.estimate_ms": race.estimates[rank][member].ms,
                "tbms.attempts": len(trace.nodes),
                "tbms.nodes": tuple(trace.nodes),
            }
            due = planned[rank]
            if due is not None:
                told["tbms.planned_ms"] = due / 1000
            self._tracer.ended(
                CANDIDATE,
                trace.context,
                self._context,
                arrival + call.begun / 1e6,
                arrival + call.ended / 1e6,
                told,
                Kind.CLIENT,
                error=str(call.fate) if call.fate is Fate.FAILED else "",
            )


def _of_race(race: Race) -> Attributes:
    outcome = race.outcome
    told: dict[str, Attribute] = {
        **model_attributes(race.plan.model),
        "tbms.limit_ms": race.plan.limit_ms,
        "tbms.answer": str(race.plan.answer),
        "tbms.candidates": len(race.plan.candidates),
    }
    if outcome is None:
        told["tbms.outcome"] = "gone"
    elif isinstance(outcome, Answer):
        told |= {"tbms.outcome": "answer", "tbms.why": str(outcome.why), "tbms.rank": outcome.rank}
    elif isinstance(outcome, Fallback):
        told |= {"tbms.outcome": "fallback", "tbms.why": str(outcome.cause)}
    else:
        told |= {"tbms.outcome": "fail", "tbms.why": str(outcome.why)}
    if outcome is not None:
        told["tbms.left_ms"] = outcome.left_ms
    return told


def _error(race: Race) -> str:
    outcome = race.outcome
    return "" if outcome is None or isinstance(outcome, Answer | Fallback) else str(outcome.why)


def _times(log: list[Note]) -> tuple[float, float]:
    """When it began and when it was over, in seconds since the call arrived."""
    return (log[0][0] / 1e6, log[-1][0] / 1e6) if log else (0.0, 0.0)


def _limits(race: Race) -> tuple[int, int]:
    return micros(race.plan.limit_ms), micros(race.margin_ms)
