"""The `cache` section of the configuration."""

import math
from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from mesh.model_cache.books.names import check_name
from mesh.model_cache.books.needs import Entangled, parts_first
from mesh.model_cache.books.states import Room
from mesh.model_cache.errors import BadName
from mesh.settings import Settings


class CapacitySettings(Settings):
    """What the node may hold. What is not given has no limit."""

    models: int | None = Field(default=None, ge=1, le=100_000, description="Models in the model server at once.")
    disk_bytes: ByteSize | None = Field(
        default=None,
        gt=0,
        description="Bytes of disk, as 200GiB. With it, files of unloaded models stay while they fit; without it they "
        "go with their model.",
    )
    memory_bytes: ByteSize | None = Field(default=None, gt=0, description="Bytes of the model server's memory.")

    def room(self) -> Room:
        """The capacity as an amount of room, infinite where it has no limit."""
        return Room(
            math.inf if self.models is None else self.models,
            math.inf if self.disk_bytes is None else self.disk_bytes,
            math.inf if self.memory_bytes is None else self.memory_bytes,
        )


class ReserveSettings(Settings):
    """What is kept free for the next load, so that it need not wait for another model to be unloaded."""

    models: int = Field(default=0, ge=0, le=1000, description="Places in the model server.")
    disk_bytes: ByteSize = Field(default=ByteSize(0), ge=0, description="Bytes of disk.")
    memory_bytes: ByteSize = Field(default=ByteSize(0), ge=0, description="Bytes of the model server's memory.")

    def room(self) -> Room:
        """The reserve as an amount of room."""
        return Room(self.models, self.disk_bytes, self.memory_bytes)


class BackOffSettings(Settings):
    """How long a model whose load failed is not loaded again; doubled with each failure in a row."""

    first_seconds: float = Field(default=5.0, gt=0, le=3600, description="After the first failure.")
    most_seconds: float = Field(default=600.0, gt=0, le=86_400, description="Never for longer than that.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first_seconds > self.most_seconds:
            raise ValueError("first_seconds is larger than most_seconds")
        return self


class LoaderSettings(Settings):
    """The model server of this node."""

    api: Literal["tf-serving", "v2"] = Field(
        default="v2",
        description="How models are loaded: `tf-serving` by its config reload, `v2` (Triton in explicit mode, the "
        "embedded server) by the model repository extension.",
    )
    address: str = Field(default="127.0.0.1:8500", min_length=1, description="Its gRPC address.")
    platform: str = Field(default="tensorflow", min_length=1, description="TF Serving's model_platform.")
    folder: Path | None = Field(
        default=None,
        description="The cache's folder of models as the model server sees it, where that is another path.",
    )


class CacheSettings(Settings):
    """How a node fetches, loads and evicts models. The model server's repository is `<folder>/models`."""

    folder: Path = Field(description="Where models are kept; everything in it belongs to the cache.")
    loader: LoaderSettings = LoaderSettings()
    capacity: CapacitySettings = CapacitySettings()
    reserve: ReserveSettings = ReserveSettings()
    memory_factor: float = Field(
        default=1.2, ge=0, le=100, description="Memory of a model before it is measured, as a multiple of its files."
    )
    memory_bytes: dict[str, ByteSize] = Field(
        default={}, description="Memory declared per model; used where the model server does not measure."
    )
    min_age_seconds: float = Field(
        default=10.0, ge=0, le=86_400, description="A model loaded less long ago is not evicted."
    )
    room_seconds: float = Field(
        default=2.0, ge=0, le=600, description="How long a load waits for room before another replica is to be asked."
    )
    max_waiting: int = Field(default=10_000, ge=1, le=1_000_000, description="Calls that may wait for one model.")
    max_loads: int = Field(default=256, ge=1, le=10_000, description="Loads under way or waiting for room at once.")
    fetch_concurrency: int = Field(default=4, ge=1, le=256, description="Fetches at once.")
    fetch_stall_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="A fetch that makes no progress for so long has failed."
    )
    listing_seconds: float = Field(default=10.0, gt=0, le=600, description="Longest wait for a store's list.")
    load_seconds: float = Field(default=300.0, gt=0, le=86_400, description="Longest time that a load may take.")
    server_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="How long a load waits for a model server that is away."
    )
    poll_seconds: float = Field(default=2.0, gt=0, le=600, description="How often the model server is looked at.")
    refill_concurrency: int = Field(default=2, ge=1, le=64, description="Loads at once after it was restarted.")
    missing_seconds: float = Field(
        default=10.0, ge=0, le=3600, description="How long a model that no store has is answered without asking."
    )
    refresh_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="How often the store is asked for a newer version of a model in use."
    )
    back_off: BackOffSettings = BackOffSettings()
    pinned: frozenset[str] = Field(default=frozenset(), description="Models loaded at the start and never evicted.")
    labels: dict[str, dict[str, int]] = Field(default={}, description="Version labels: model, label, version.")
    needs: dict[str, tuple[str, ...]] = Field(
        default={},
        max_length=100_000,
        description="Models that a model calls itself, as with Triton's business logic scripting: fetched and loaded "
        "before it, and kept while it is loaded. What a Triton ensemble is made of need not be named.",
    )

    @model_validator(mode="after")
    def _reserve_fits(self) -> Self:
        reserve, capacity = self.reserve.room(), self.capacity.room()
        if not (reserve + Room(models=1)).fits(capacity):
            raise ValueError("the reserve leaves no room for a model")
        return self

    @field_validator("needs")
    @classmethod
    def _lead_to_an_end(cls, needs: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        try:
            for model, needed in needs.items():
                for name in (model, *needed):
                    check_name(name)
                parts_first(model, lambda name: needs.get(name, ()))
        except (BadName, Entangled) as error:
            raise ValueError(str(error)) from None
        return needs
