"""What a call asks for: the vocabulary that every codec reads into."""

from dataclasses import dataclass
from enum import StrEnum

from mesh.node import ProtocolKind


class InferenceProtocol(StrEnum):
    """The four protocols understood. The value is the name used in logs, metrics and docs."""

    TFS_GRPC = "tfs-grpc"
    TFS_REST = "tfs-rest"
    V2_GRPC = "v2-grpc"
    V2_REST = "v2-rest"

    # Attributes and no properties: every call asks for them several times.
    is_grpc: bool
    """Whether calls are framed gRPC messages and errors a grpc-status."""
    kind: ProtocolKind
    """Which endpoint of a node takes such calls."""

    def __init__(self, name: str) -> None:
        self.is_grpc = name.endswith("-grpc")
        self.kind = "grpc" if self.is_grpc else "rest"


class Verb(StrEnum):
    """What is asked of the model, whatever the protocol calls it."""

    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    MULTI_INFERENCE = "multi-inference"
    SESSION_RUN = "session-run"
    INFER = "infer"
    STREAM_INFER = "stream-infer"
    STATUS = "status"
    METADATA = "metadata"
    READY = "ready"
    CONFIG = "config"
    STATISTICS = "statistics"


INFERENCE = frozenset(
    {Verb.PREDICT, Verb.CLASSIFY, Verb.REGRESS, Verb.MULTI_INFERENCE, Verb.SESSION_RUN, Verb.INFER, Verb.STREAM_INFER}
)
"""What asks a model for an inference."""

READS = INFERENCE - {Verb.SESSION_RUN, Verb.STREAM_INFER}
"""Of these, what may be asked twice without harm, and has one reply."""


@dataclass(frozen=True, slots=True)
class Call:
    """One inference call, as far as it names what it wants.

    `version` is the version as the client wrote it (decimal digits), `label` a TF Serving version
    label; at most one of the two is set. `signature` is TF Serving's signature name.
    """

    protocol: InferenceProtocol
    verb: Verb
    model: str
    version: str | None = None
    label: str | None = None
    signature: str | None = None
