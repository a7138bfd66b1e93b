"""One name of the `models:` section: its settings, read and ready to be looked up."""

from dataclasses import dataclass, replace
from hashlib import blake2b

from ext_proc.broker import fields
from ext_proc.broker.plan import AnswerMode, Candidate, RankedTarget, StaticAnswer
from ext_proc.broker.settings import ModelSettings
from ext_proc.wire.call import InferenceProtocol


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What `ModelSettings` say of a name, with the candidates read. At most one of alias, split and virtual is set.

    Times in ms; `labels` from label to version; `shadow_share` from 0 to 1.
    """

    name: str
    limit_ms: float | None
    estimate_ms: float | None
    answer: AnswerMode | None
    cross_request: bool | None
    cross_lag_ms: float | None
    priority: int | None
    backups: tuple[RankedTarget, ...]
    alias: Candidate | None
    labels: dict[str, str]
    split: tuple[Candidate, ...]
    virtual: tuple[RankedTarget, ...]
    shadow: Candidate | None
    shadow_share: float
    fallback: dict[InferenceProtocol, StaticAnswer]

    @classmethod
    def read(cls, name: str, settings: ModelSettings) -> "ModelEntry":
        """Reads the texts of candidates, which the settings have checked already."""
        return cls(
            name=name,
            limit_ms=settings.limit_ms,
            estimate_ms=settings.estimate_ms,
            answer=settings.answer,
            cross_request=settings.cross_request,
            cross_lag_ms=settings.cross_lag_ms,
            priority=settings.priority,
            backups=tuple(map(fields.read_target, settings.backups)),
            alias=None if settings.alias is None else fields.read_candidate(settings.alias),
            labels={label: str(version) for label, version in settings.labels.items()},
            split=tuple(map(fields.read_candidate, settings.split)),
            virtual=tuple(map(fields.read_target, settings.virtual)),
            shadow=None if settings.shadow is None else fields.read_candidate(settings.shadow.to),
            shadow_share=0.0 if settings.shadow is None else settings.shadow.share,
            fallback={protocol: fallback.answer(protocol) for protocol, fallback in settings.fallback.items()},
        )

    @property
    def steers(self) -> bool:
        """Whether a call without any header can be raced, renamed or copied because of this entry."""
        return bool(
            self.limit_ms or self.backups or self.alias or self.labels or self.split
            or self.virtual or self.shadow or self.fallback
        )  # fmt: skip

    @property
    def tells(self) -> bool:
        """Whether the node of a call that uses this name is told how it may share a batch."""
        return (self.cross_request, self.cross_lag_ms, self.priority) != (None, None, None)

    def fill(self, candidate: Candidate) -> Candidate:
        """The candidate with its label turned into a version, and with the declared estimate."""
        version = None if candidate.label is None else self.labels.get(candidate.label)
        if version is not None:
            candidate = replace(candidate, version=version, label=None)
        if candidate.estimate_ms is None and self.estimate_ms is not None:
            candidate = replace(candidate, estimate_ms=self.estimate_ms)
        return candidate

    def leads_to(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The candidates that the name stands for: that of the alias, all sides of the split, or none.

        A candidate that says its version or label is not split: it names one side already.
        """
        if self.alias is not None:
            return (_onto(self.alias, candidate),)
        if self.split and candidate.version is None and candidate.label is None:
            return tuple(_onto(side, candidate) for side in self.split)
        return ()

    def side(self, sides: tuple[Candidate, ...], key: str) -> Candidate:
        """The side of the split for this key: the same one for as long as the weights stay."""
        if len(sides) == 1:
            return sides[0]
        point = fraction(self.name, key) * sum(side.weight for side in self.split)
        for weighted, side in zip(self.split, sides, strict=True):
            point -= weighted.weight
            if point < 0:
                return side
        return sides[-1]


def fraction(salt: str, key: str) -> float:
    """A number from 0 to 1 (exclusive) that depends on nothing but the two texts."""
    digest = blake2b(key.encode(), digest_size=6, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest) / (1 << 48)


def _onto(target: Candidate, candidate: Candidate) -> Candidate:
    """The target of an alias or split, with what the candidate itself says: version or label, estimate, weight."""
    own_version = candidate.version is not None or candidate.label is not None
    return Candidate(
        model=target.model,
        version=candidate.version if own_version else target.version,
        label=candidate.label if own_version else target.label,
        estimate_ms=target.estimate_ms if candidate.estimate_ms is None else candidate.estimate_ms,
        weight=candidate.weight,
    )
