"""When a node counts as dead, and when it is asked again: the decisions, without clock or sockets."""

from pydantic import Field

from mesh.settings import Settings


class ProbeSettings(Settings):
    """How nodes are probed. Times are in seconds."""

    enabled: bool = Field(default=True, description="Whether nodes are probed at all; if not, all count as alive.")
    interval: float = Field(default=2.0, ge=0.1, le=3600.0, description="Pause between two probes of a node.")
    retry_interval: float = Field(
        default=0.25,
        ge=0.01,
        le=60.0,
        description="Pause while the last probe contradicts what is believed.",
    )
    timeout: float = Field(default=1.0, ge=0.01, le=60.0, description="A probe that takes longer has failed.")
    failures: int = Field(default=3, ge=1, le=100, description="Failed probes in a row after which a node is dead.")
    successes: int = Field(default=2, ge=1, le=100, description="Good probes in a row after which it is alive again.")
    jitter: float = Field(
        default=0.1, ge=0.0, le=0.5, description="By what share of itself a pause may be longer or shorter."
    )
    path: str | None = Field(
        default=None,
        pattern=r"^/[!-~]*$",
        max_length=1024,
        description="A path that the REST endpoint must answer with 2xx. None: that it accepts connections is enough.",
    )


class HealthState:
    """What is believed of one node. It is alive until proven dead, and then dead until proven alive."""

    __slots__ = ("_against", "_settings", "alive")

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._against = 0  # probes in a row that contradict `alive`
        self.alive = True

    def observe(self, good: bool) -> bool | None:
        """Take in the result of a probe. Returns the new belief if it changed, otherwise None."""
        if good is self.alive:
            self._against = 0
            return None
        self._against += 1
        if self._against < (self._settings.successes if good else self._settings.failures):
            return None
        self.alive = good
        self._against = 0
        return good

    @property
    def in_doubt(self) -> bool:
        """Whether what was observed last contradicts what is believed."""
        return self._against > 0

    def pause(self, chance: float) -> float:
        """Seconds until the next probe: short while in doubt. `chance`, from 0 to 1, is its place in the jitter."""
        base = self._settings.retry_interval if self._against else self._settings.interval
        return base * (1.0 + self._settings.jitter * (2.0 * chance - 1.0))
