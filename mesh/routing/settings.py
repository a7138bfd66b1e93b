"""The `routing` section of the configuration."""

from typing import Self

from pydantic import Field, model_validator

from mesh.settings import Settings


class RoutingSettings(Settings):
    """How a node is chosen for a call."""

    replicas: int = Field(
        default=2,
        ge=1,
        le=64,
        description="On how many nodes a model may live where nothing else is said; its calls are spread over them.",
    )
    max_replicas: int = Field(
        default=8,
        ge=1,
        le=64,
        description="On how many nodes a model may live while its load asks for that, where nodes tell what they hold.",
    )
    demand_seconds: float = Field(
        default=30.0,
        ge=1.0,
        le=3600.0,
        description="Over how long a model's calls are counted before it is given more replicas, or fewer.",
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=16,
        description="How many further nodes are named after the replicas, for Envoy's retries.",
    )
    zone: str = Field(
        default="",
        max_length=253,
        description="The zone of this process; of two equal nodes the one in it is preferred. Empty: no preference.",
    )
    load_factor: float = Field(
        default=1.25,
        gt=1.0,
        le=100.0,
        description="A node may carry this many times its weight's share of the load; beyond, the next one is asked.",
    )
    load_floor: float = Field(
        default=16.0,
        ge=1.0,
        le=1e6,
        description="Calls in flight that every node may carry whatever the average: at low load nothing moves.",
    )
    load_step: float = Field(
        default=2.0,
        gt=0.0,
        le=1e6,
        description="With fewer calls in flight a node counts as idle: at low load one call does not move the next.",
    )
    zone_room: float = Field(
        default=64.0,
        ge=1.0,
        le=1e6,
        description="Calls in flight that a node of mean weight may have before calls go to nodes of other zones.",
    )
    failover_bytes: int = Field(
        default=1 << 20,
        ge=0,
        le=1 << 30,
        description="A call to a node of another zone with no larger body is sent by the server itself, which asks "
        "another node if that one fails; a larger one (0: any) by Envoy alone, which cannot.",
    )
    call_seconds: float = Field(
        default=0.1,
        ge=0.001,
        le=600.0,
        description="How long a call is taken to occupy its node where its end is not seen.",
    )
    session_idle_seconds: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="How long a session keeps its node without a call; at least as long as its model server keeps it.",
    )
    max_sessions: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Sessions that are remembered at once (some 400 bytes each); beyond, the one idle longest goes.",
    )
    memo_models: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Of how many models the order of nodes is surely remembered (8 to 16 bytes a node and model).",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if "max_replicas" in self.model_fields_set and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, less than replicas, which is {self.replicas}")
        return self


class KnownSettings(Settings):
    """What is known of calls before they come: see `mesh.routing.known`."""

    models: int = Field(
        default=5_000,
        ge=1,
        le=100_000,
        description="Models that are known at once; of more the most called are. Each costs Envoy 20 us a change.",
    )
    seconds: float = Field(
        default=1.0,
        ge=0.1,
        le=3600.0,
        description="How long changes are gathered. A holder that goes is not waited for.",
    )
    sampled_from: float | None = Field(
        default=50.0,
        ge=1.0,
        description="Calls a second of a model from which on Envoy tells of one known call in 16. None: of all.",
    )
