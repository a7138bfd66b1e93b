"""The V2 (KServe, Triton) gRPC API: its methods, and where its requests name their model."""

from collections.abc import Mapping

from ext_proc.errors import CallError, Reason
from ext_proc.wire.batch import BatchCodec
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codec import Method
from ext_proc.wire.names import check_name, check_version, decode
from ext_proc.wire.output_arrays import Array, Outputs
from ext_proc.wire.protobuf.fields import Pieces, len_field, without
from ext_proc.wire.v2 import grpc_outputs
from ext_proc.wire.v2.grpc_batch import V2GrpcBatches
from ext_proc.wire.v2.refusals import REPOSITORY, check_no_label

_SERVICE = "/inference.GRPCInferenceService/"

NAME, VERSION = 1, 2  # in every request, whether they are called model_name and model_version or name and version


class NameFinder:
    """Finds name and version of a request. They are strings of the request itself, so the version may still come
    when the name is here: the call is named at the first other field, or at the end. See docs/decisions/020.
    """

    __slots__ = ("_name", "_verb", "_version")
    wanted = frozenset((NAME, VERSION))

    def __init__(self, verb: Verb) -> None:
        self._verb = verb
        self._name = b""
        self._version = b""

    def field(self, number: int, content: bytes | None) -> Call | None:
        """Takes the request's next field; the call, once it is named."""
        if content is None:
            return self._call() if self._name else None
        if number == NAME:
            self._name = content
        else:
            self._version = content
        return None

    def end(self) -> Call | None:
        """The request is over: the call, None if it asks for the statistics of all models, or Triton's error."""
        if self._name:
            return self._call()
        if self._verb is Verb.STATISTICS:
            return None
        raise CallError(Reason.INVALID, "Request for unknown model: '' is not found")

    def _call(self) -> Call:
        version = check_version(decode(self._version, "model version")) if self._version else None
        return Call(InferenceProtocol.V2_GRPC, self._verb, check_name(decode(self._name)), version)


class V2Grpc:
    """The codec of the V2 gRPC API."""

    batches: BatchCodec = V2GrpcBatches()
    methods: Mapping[str, Method] = {
        _SERVICE + "ModelInfer": Method(InferenceProtocol.V2_GRPC, Verb.INFER, NameFinder),
        _SERVICE + "ModelStreamInfer": Method(InferenceProtocol.V2_GRPC, Verb.STREAM_INFER, NameFinder),
        _SERVICE + "ModelReady": Method(InferenceProtocol.V2_GRPC, Verb.READY, NameFinder),
        _SERVICE + "ModelMetadata": Method(InferenceProtocol.V2_GRPC, Verb.METADATA, NameFinder),
        _SERVICE + "ModelConfig": Method(InferenceProtocol.V2_GRPC, Verb.CONFIG, NameFinder),
        _SERVICE + "ModelStatistics": Method(InferenceProtocol.V2_GRPC, Verb.STATISTICS, NameFinder),
    }
    refused: Mapping[str, str] = {
        _SERVICE + "RepositoryModelLoad": REPOSITORY,
        _SERVICE + "RepositoryModelUnload": REPOSITORY,
        # Reading it does no harm, but one node's index would pass for that of all.
        _SERVICE + "RepositoryIndex": REPOSITORY,
    }

    def error_body(self, message: str) -> bytes:
        """See `Codec`."""
        return message.encode(errors="backslashreplace")

    def rename_message(self, verb: Verb, message: bytes, model: str, version: str | None, label: str | None) -> Pieces:
        """See `GrpcCodec`. Name and version are the request's own fields. UNSUPPORTED for a label."""
        check_no_label(model, label)
        named = len_field(NAME, model.encode())
        if version is not None:
            named += len_field(VERSION, version.encode())
        return [named, *without(message, {NAME, VERSION})]

    def decode_outputs(self, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        """See `Codec`."""
        return grpc_outputs.decode(body)

    def encode_outputs(
        self, headers: Mapping[str, str], body: bytes, outputs: Outputs
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """See `Codec`."""
        return grpc_outputs.encode(body, outputs), ()
