"""What the edge keeps of a call while it holds it, by what it is held for."""

from dataclasses import dataclass
from typing import Final

from ext_proc.batching.terms import Terms
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.processing.decision import Seat
from mesh.routing.placement import Placement


@dataclass(slots=True, init=False)
class HeldRace:
    """What the edge keeps of a held call: its plan, when it arrived at Envoy (monotonic seconds), its seat; and of one
    that is only renamed its nodes, if they are chosen already."""

    plan: Final[Plan]
    arrival: Final[float]
    seat: Final[Seat | None]
    placement: Final[Placement | None]

    def __init__(
        self, plan: Plan, arrival: float, seat: Seat | None = None, placement: Placement | None = None
    ) -> None:
        self.plan = plan
        self.arrival = arrival
        self.seat = seat
        self.placement = placement


@dataclass(frozen=True, slots=True)
class HeldForSequence:
    """What the edge keeps of a call that is held until its body tells its sequence: when its headers came to us, and
    when it arrived at Envoy (monotonic seconds).
    """

    now: float
    arrival: float


@dataclass(frozen=True, slots=True)
class HeldForCompany:
    """What the edge keeps of a call that is to be gathered: its terms when it came (monotonic seconds), its nodes, and
    the model that it is to be of, if that has another name than the call says."""

    terms: Terms
    now: float
    placement: Placement
    renamed: Candidate | None = None


@dataclass(frozen=True, slots=True)
class HeldForFar:
    """What the edge keeps of a call that goes to another zone, and that the server is to send: what it is to ask, and
    when it arrived at Envoy (monotonic seconds).
    """

    plan: Plan
    arrival: float
