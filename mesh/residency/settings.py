"""The `residency` section of the configuration: how long an edge waits for what nodes say, and remembers it."""

from pydantic import Field

from mesh.settings import Settings


class ResidencySettings(Settings):
    """How an edge follows what the nodes hold. Times are in seconds."""

    silence: float = Field(
        default=8.0, ge=0.1, le=600.0, description="A stream without a whole line for so long is lost. Nodes say 2 s."
    )
    retry: float = Field(default=0.5, ge=0.01, le=60.0, description="First pause before a lost stream is opened again.")
    retry_most: float = Field(default=10.0, ge=0.01, le=600.0, description="Longest pause; each one doubles the last.")
    remember: float = Field(
        default=10.0,
        ge=0.1,
        le=600.0,
        description="How long holds what a node without a stream says in a reply; it is asked twice in that time.",
    )
    gone: float = Field(
        default=60.0,
        ge=0.0,
        le=3600.0,
        description="How long a node that has left stays the last to be asked, if nothing is heard of it.",
    )
