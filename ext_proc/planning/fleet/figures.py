"""What a fleet reached on recorded calls: as it was recorded, or as it was simulated."""

from dataclasses import dataclass


@dataclass(slots=True)
class Figures:
    """Sums over the calls that count. What is not known is None.

    `hits` are calls whose model was resident where they went first, `answered` those that a model has answered, of
    races within their limit. Calls whose client left are in `calls` and count in no share of answers. `cold_seconds`
    are those that calls waited for loads, `loads` models that were loaded, `busy_seconds` what calls took at nodes.
    `slots` are those of all nodes.
    """

    seconds: float = 0.0
    nodes: int = 0
    slots: int | None = None
    calls: int = 0
    told: int = 0
    """Calls of which it is known whether they were hits."""
    hits: int = 0
    gone: int = 0
    answered: float = 0.0
    loads: int | None = None
    cold_seconds: float | None = None
    busy_seconds: float = 0.0

    @property
    def hit_share(self) -> float | None:
        """Hits / calls; None where no node tells what it holds."""
        return self.hits / self.told if self.told else None

    @property
    def answered_share(self) -> float:
        """Answered / calls, of those whose client stayed."""
        stayed = self.calls - self.gone
        return self.answered / stayed if stayed else 0.0

    @property
    def busy(self) -> float:
        """Calls that a node works on at a time, on average."""
        return self.busy_seconds / (self.seconds * self.nodes) if self.seconds and self.nodes else 0.0
