"""The codec of each protocol: the one table that naming, renaming, outputs and errors are looked up in."""

from collections.abc import Mapping
from typing import Final

from ext_proc.wire.batch import BatchCodec
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codec import Codec, GrpcCodec, RestCodec
from ext_proc.wire.tfs.grpc import TfsGrpc
from ext_proc.wire.tfs.grpc_examples import TfsGrpcExamples
from ext_proc.wire.tfs.rest import TfsRest
from ext_proc.wire.tfs.rest_examples import TfsRestExamples
from ext_proc.wire.v2.grpc import V2Grpc
from ext_proc.wire.v2.rest import V2Rest

GRPC_CODECS: Final[Mapping[InferenceProtocol, GrpcCodec]] = {
    InferenceProtocol.TFS_GRPC: TfsGrpc(),
    InferenceProtocol.V2_GRPC: V2Grpc(),
}
REST_CODECS: Final[Mapping[InferenceProtocol, RestCodec]] = {
    InferenceProtocol.TFS_REST: TfsRest(),
    InferenceProtocol.V2_REST: V2Rest(),
}
CODECS: Final[Mapping[InferenceProtocol, Codec]] = {**GRPC_CODECS, **REST_CODECS}

_EXAMPLES: Final[Mapping[tuple[InferenceProtocol, Verb], BatchCodec]] = {
    (protocol, verb): codec
    for protocol, codec in (
        (InferenceProtocol.TFS_GRPC, TfsGrpcExamples()),
        (InferenceProtocol.TFS_REST, TfsRestExamples()),
    )
    for verb in codec.verbs
}


def batches_of(call: Call) -> BatchCodec:
    """How calls like this one share a batch."""
    return _EXAMPLES.get((call.protocol, call.verb)) or CODECS[call.protocol].batches
