"""The V2 (KServe, Triton) gRPC API: its methods, and where its requests name their model."""

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_name, check_version, decode

_SERVICE = "/inference.GRPCInferenceService/"
METHODS = {
    _SERVICE + "ModelInfer": Verb.INFER,
    _SERVICE + "ModelStreamInfer": Verb.STREAM_INFER,
    _SERVICE + "ModelReady": Verb.READY,
    _SERVICE + "ModelMetadata": Verb.METADATA,
    _SERVICE + "ModelConfig": Verb.CONFIG,
    _SERVICE + "ModelStatistics": Verb.STATISTICS,
}
_CONTROL = "The model cache owns what each server holds; repository control is not open to clients."
REFUSED = {
    _SERVICE + "RepositoryModelLoad": _CONTROL,
    _SERVICE + "RepositoryModelUnload": _CONTROL,
    # Reading it does no harm, but one node's index would pass for that of all.
    _SERVICE + "RepositoryIndex": _CONTROL,
}

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
