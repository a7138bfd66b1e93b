"""The `warm` section of the configuration."""

from pydantic import Field

from mesh.settings import Settings


class WarmSettings(Settings):
    """How fast models are loaded ahead of calls."""

    enabled: bool = Field(default=True, description="Whether nodes are asked to load models ahead of calls.")
    per_second: float = Field(default=10.0, gt=0.0, le=1000.0, description="Loads asked for a second, all together.")
    per_node: int = Field(default=4, ge=1, le=64, description="Loads asked of one node at once.")
    again: float = Field(
        default=30.0, ge=0.1, le=3600.0, description="Seconds until a refused load is asked for again."
    )
    replica_load: float = Field(
        default=16.0,
        gt=0.0,
        le=1e6,
        description="Calls in flight that one copy of a model carries before there is another.",
    )
