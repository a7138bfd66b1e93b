"""The `node.batching` section: which calls are gathered into batches, and how much the device is given at once.

node:
  batching:
    slots: 1
    models:
      digits: {max_rows: 32, cross_request: true}
      resnet: {max_rows: 64, allowed_rows: [1, 8, 32, 64], cross_request: true, cross_lag_ms: 5}
      bert: {server_batches: true, slots: 16}
      words: {cross_request: true, pad: [{input: ids, buckets: [32, 64, 128]}]}
"""

from typing import Annotated, Self

from pydantic import Field, FiniteFloat, model_validator

from mesh.settings import ModelName, Settings

Milliseconds = Annotated[float, Field(ge=0, le=3_600_000, allow_inf_nan=False)]


Dimension = Annotated[int, Field(ge=1, le=31)]
Size = Annotated[int, Field(ge=1, le=16_777_216)]


class PaddedOutput(Settings):
    """An output of which one dimension is as large as that of a padded input."""

    name: str = Field(min_length=1, max_length=255, description="The output, as replies name it.")
    dim: Dimension = Field(1, description="Its dimension that is cut back; 0 would be the rows.")


class InputPadding(Settings):
    """How one input of a model is padded, so that calls of different sizes share a batch."""

    input: str = Field(min_length=1, max_length=255, description="The input, as calls name it.")
    dim: Dimension = Field(1, description="Its dimension that differs from call to call; 0 would be the rows.")
    buckets: tuple[Size, ...] = Field(
        min_length=1,
        max_length=64,
        description="The sizes that it is padded to, ascending: each call to the least that is enough. Larger ones "
        "share batches with calls of their own size only.",
    )
    value: Annotated[int, Field(ge=-(2**63), le=2**64 - 1)] | FiniteFloat | Annotated[str, Field(max_length=1024)] = (
        Field(0, description="What is added behind. 0: the zero of any type, of strings the empty one.")
    )
    outputs: tuple[PaddedOutput, ...] = Field(
        (),
        max_length=64,
        description="Outputs that are as large in one dimension as the padded input; each caller gets as much of them "
        "as its own input has. All others are left as they are.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError("buckets is a list of different sizes, the smallest first")
        return self


class ModelBatching(Settings):
    """How the calls of one model are gathered."""

    cross_request: bool = Field(
        False,
        description="Calls may share a batch with others unless they say otherwise (`tloc: ...;cross-request=0`).",
    )
    cross_lag_ms: Milliseconds | None = Field(
        None,
        description="Longest time that a call waits for company, unless it says otherwise (`cross-lag`). Without it a "
        "call waits for as long as the device is busy, or for one that is about to come.",
    )
    max_rows: int = Field(32, ge=1, le=65_536, description="Most rows of one batch: the model's largest batch size.")
    max_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, le=2**31 - 1, description="Most bytes of one batch, as the calls wrote them."
    )
    allowed_rows: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (),
        max_length=64,
        description="Batch sizes that the model was made for, ascending; a batch of any other size is filled up with "
        "copies of its last row. Empty: any size.",
    )
    pad: tuple[InputPadding, ...] = Field(
        (),
        max_length=64,
        description="Inputs that may differ from call to call in a dimension beside the rows, and are padded to share "
        "a batch: only for a model that makes nothing of the padding. A call that finds no company goes as it came.",
    )
    share_protocols: bool = Field(
        False,
        description="Calls over gRPC and REST share batches, where both have their data as raw bytes: V2's, to Triton "
        "or tbms model-server. Such batches go to the model server over gRPC.",
    )
    split: bool = Field(
        True, description="A call of more than `max_rows` is asked in pieces. Without it such a call is refused."
    )
    slots: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Batches of this model that run at once: its instances. Without it as many as the device runs.",
    )
    exact: bool = Field(
        False,
        description="Batch only while the model gives the same bytes in company as alone; see `check_share`. Without "
        "it what differs is counted, and no more.",
    )
    server_batches: bool | None = Field(
        None,
        description="The model's server gathers by itself: calls are ordered, shed and withdrawn here, and handed over "
        "one by one. Without it as Triton says of the model (dynamic_batching, sequence_batching); TF Serving does not "
        "tell whether it has a batching file.",
    )
    switch_ms: Milliseconds | None = Field(
        None, description="What it costs the device to go over to this model from another one. Without it: measured."
    )

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if list(self.allowed_rows) != sorted(set(self.allowed_rows)):
            raise ValueError("allowed_rows is a list of different sizes, the smallest first")
        if self.allowed_rows and self.allowed_rows[-1] != self.max_rows:
            raise ValueError(f"the last of allowed_rows is {self.allowed_rows[-1]}, and max_rows is {self.max_rows}")
        if len({(each.input, each.dim) for each in self.pad}) < len(self.pad):
            raise ValueError("pad has an input's dimension twice")
        if self.pad and self.server_batches:
            raise ValueError("pad is for batches that are gathered here, and server_batches says that none are")
        if self.share_protocols and self.server_batches:
            raise ValueError("share_protocols is for batches that are gathered here, and server_batches says none are")
        return self


class BatchingSettings(Settings):
    """The section as a whole."""

    slots: int | None = Field(
        1,
        ge=1,
        le=1024,
        description="Batches that the device runs at once, those of all models together. null: found out, by AIMD.",
    )
    ahead: int = Field(
        1,
        ge=0,
        le=64,
        description="Batches that are handed over while all slots are taken, so that the next one's way to the device "
        "overlaps with the work of the last. Only full or urgent ones are.",
    )
    margin_ms: Milliseconds = Field(
        2.0, description="Time kept for the way back, beyond what a batch is expected to need."
    )
    patience_ms: Annotated[float, Field(gt=0, le=3_600_000, allow_inf_nan=False)] = Field(
        1000.0,
        description="Order of calls without a limit: as if theirs were this long. No limit is enforced on them. Where "
        "the device has too little time, each model has a batch as often.",
    )
    batch_seconds: float = Field(
        60.0, gt=0, le=3600, description="Longest time that the model server may take over one batch."
    )
    key_headers: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")], ...] = Field(
        (),
        max_length=16,
        description="Headers, in lower case, that the model server goes by: calls share a batch only where these are "
        "equal, and it gets them. Of other headers a shared batch has none.",
    )
    check_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        0.001,
        description="Share of the calls answered in company that are asked once more alone, and compared.",
    )
    log: bool = Field(
        False, description="Write a line to the log for each batch, at level info; `tbms plan --log` reads them."
    )
    queue_calls: int = Field(4096, ge=1, le=1_000_000, description="Most calls that wait, those of all models.")
    queue_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, le=2**40, description="Most bytes of calls that wait, those of all models."
    )
    default: ModelBatching = Field(
        ModelBatching(), description="For models that are not listed: their calls share batches only if they ask to."
    )
    models: dict[ModelName, ModelBatching] = Field(default_factory=dict, max_length=10_000)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.check_share == 0 and any(model.exact for model in (self.default, *self.models.values())):
            raise ValueError("a model is to be exact, and check_share is 0: nobody would look")
        return self

    def of(self, model: str) -> ModelBatching:
        """The settings of one model."""
        return self.models.get(model, self.default)
