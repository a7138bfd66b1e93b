"""The broker's sections of the configuration: `broker:` and, by model name, `models:`.

Candidates are written as in the headers (see `ext_proc.broker.fields`), one string each:

    models:
      embedding:
        limit_ms: 50
        estimate_ms: 35
        backups: [svm;est=25, (bayes;est=15 keysearch;w=2);mix=avg]
        labels: {stable: 3}
        shadow: {to: embedding;version=4, share: 0.05}
        fallback: {tfs-rest: {body: '{"predictions": [[0]]}'}}
      prod: {alias: embedding;label=stable}
      trial: {split: [embedding;version=3;w=9, embedding;version=4;w=1]}
      assistant: {virtual: [embedding, trial, keysearch;est=5]}
"""

import base64
import binascii
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ext_proc.broker import fields
from ext_proc.broker.plan import AnswerMode, StaticAnswer, members
from ext_proc.wire.call import InferenceProtocol
from mesh.settings import Settings


def _checked_target(text: str) -> str:
    fields.read_target(text)
    return text


def _checked_candidate(text: str) -> str:
    fields.read_candidate(text)
    return text


TargetText = Annotated[str, AfterValidator(_checked_target)]
CandidateText = Annotated[str, AfterValidator(_checked_candidate)]
Milliseconds = Annotated[float, Field(gt=0, le=fields.MAX_ESTIMATE_MS, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class BrokerSettings(Settings):
    """The `broker:` section: rules that hold for all races of an edge."""

    margin_ms: float = Field(
        2.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Time kept for the way back: a held result is returned this long before the limit.",
    )
    deadline_slack_ms: float = Field(
        5.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Taken off a gRPC deadline, which began at the client before the call was sent; at most a tenth of "
        "it is.",
    )
    hedge_share: Share = Field(
        0.2,
        description="Work that may be started for backups while a better candidate runs, as a share of primary work.",
    )
    hedge_burst_ms: Milliseconds = Field(
        500.0,
        description="Estimated work that hedges may save up; also what they may spend right after a start.",
    )
    max_candidates: int = Field(
        8, ge=1, le=64, description="Most models that one call may ask, members of mixes included."
    )
    max_limit_ms: Milliseconds = Field(
        60_000.0,
        description="Longest `tloc` accepted, and the limit of a brokered call for which nobody gave one.",
    )
    default_estimate_ms: Milliseconds = Field(
        50.0, description="Estimate of a model for which none is declared, until it has been observed often enough."
    )
    default_load_ms: Milliseconds = Field(
        5_000.0,
        description="Load time that a cold model is expected to need, where its node tells none and nothing was "
        "observed.",
    )
    estimate_window_s: float = Field(
        60.0, gt=0, le=86_400, allow_inf_nan=False, description="How far back observed times count."
    )


class FallbackSettings(Settings):
    """A fixed answer in one protocol: `body` as text, or `body_base64` for bytes (a gRPC message)."""

    body: str | None = Field(None, description="The body as text, sent as UTF-8.")
    body_base64: str | None = Field(
        None, description="The body as base64; for gRPC the message, without its five-byte frame."
    )
    content_type: str | None = Field(
        None, description="Without it application/json, or application/grpc for the gRPC protocols."
    )

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if (self.body is None) == (self.body_base64 is None):
            raise ValueError("exactly one of body and body_base64 is expected")
        self.content()
        return self

    def content(self) -> bytes:
        """The body's bytes; for gRPC the message without its five-byte frame."""
        if self.body is not None:
            return self.body.encode()
        try:
            return base64.b64decode(self.body_base64 or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"body_base64 is not base64: {error}") from error

    def answer(self, protocol: InferenceProtocol) -> StaticAnswer:
        """The answer as it is given in `protocol`."""
        usual = "application/grpc" if protocol.is_grpc else "application/json"
        return StaticAnswer(self.content(), self.content_type or usual)


class ShadowSettings(Settings):
    """A share of the calls is copied to another model; the copy's answer is dropped."""

    to: CandidateText = Field(description="The candidate that gets the copies; one model, not a list.")
    share: Share = Field(1.0, description="The share of calls that is copied.")


class ModelSettings(Settings):
    """What the broker knows about one name of the `models:` section.

    A name is at most one of alias, split and virtual. `limit_ms`, `answer`, `cross_request`, `cross_lag_ms`,
    `priority`, `backups`, `shadow` and `fallback` hold for calls that use this name; what an alias or a split leaves
    out is taken from the model that it leads to. They never hold for a model that is asked as a backup.
    """

    limit_ms: Milliseconds | None = Field(
        None, description="Time limit of calls that bring none of their own (`tloc`), from their arrival at Envoy."
    )
    estimate_ms: Milliseconds | None = Field(
        None, description="Time that the model is expected to need, until it has been observed often enough."
    )
    answer: AnswerMode | None = Field(
        None,
        description="best: a result is held while a better-ranked candidate can still finish; first: the first result "
        "is returned. Without it best.",
    )
    cross_request: bool | None = Field(
        None, description="Whether calls may share a batch with others, where `tloc` does not say."
    )
    cross_lag_ms: Annotated[float, Field(ge=0, le=fields.MAX_ESTIMATE_MS, allow_inf_nan=False)] | None = Field(
        None, description="The longest that calls may wait for company, where `tloc` does not say."
    )
    priority: Annotated[int, Field(ge=-fields.MAX_PRIORITY, le=fields.MAX_PRIORITY)] | None = Field(
        None, description="The order of calls in queues, higher first, where `tloc` does not say. Without it 0."
    )
    backups: tuple[TargetText, ...] = Field((), description="Candidates after this model, the best first.")
    alias: CandidateText | None = Field(None, description="The model that this name stands for.")
    labels: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="Versions of the model by label."
    )
    split: tuple[CandidateText, ...] = Field(
        (), description="Models among which the calls of this name are shared out by weight (`w`)."
    )
    virtual: tuple[TargetText, ...] = Field(
        (), description="A ranked list that this name stands for, its first entry the primary."
    )
    shadow: ShadowSettings | None = Field(None, description="Copies of a share of the calls, to another model.")
    fallback: dict[InferenceProtocol, FallbackSettings] = Field(
        default_factory=dict,
        description="By protocol, the answer that is given where no candidate has answered in time.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in ("alias", "split", "virtual") if getattr(self, kind)]
        if len(kinds) > 1:
            raise ValueError(f"a model is one of {' and '.join(kinds)}, not both")
        if self.virtual and self.backups:
            raise ValueError("a virtual model has no backups: they are further entries of its list")
        if kinds and self.labels:
            raise ValueError(f"labels belong to the model itself, not to a model that is {kinds[0]}")
        if self.limit_ms is not None:
            self._within(self.limit_ms)
        return self

    def _within(self, limit_ms: float) -> None:
        """Raises ValueError for a declared estimate over the limit: its owner could never answer in time."""
        if (self.estimate_ms or 0) > limit_ms:
            raise ValueError(f"estimate_ms {self.estimate_ms:g} is over limit_ms {limit_ms:g}")
        for text in (*self.backups, *self.virtual):
            for one in members(fields.read_target(text)):
                if (one.estimate_ms or 0) > limit_ms:
                    raise ValueError(f"{one.title}: est={one.estimate_ms:g} is over limit_ms {limit_ms:g}")
