"""TF Serving's gRPC API: its methods, and where its requests name their model."""

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.fields import LEN, VARINT, walk
from ext_proc.wire.names import check_label, check_name, check_version, decode

METHODS = {
    "/tensorflow.serving.PredictionService/Predict": Verb.PREDICT,
    "/tensorflow.serving.PredictionService/Classify": Verb.CLASSIFY,
    "/tensorflow.serving.PredictionService/Regress": Verb.REGRESS,
    "/tensorflow.serving.PredictionService/MultiInference": Verb.MULTI_INFERENCE,
    "/tensorflow.serving.PredictionService/GetModelMetadata": Verb.METADATA,
    "/tensorflow.serving.ModelService/GetModelStatus": Verb.STATUS,
    "/tensorflow.serving.SessionService/SessionRun": Verb.SESSION_RUN,
}
REFUSED = {
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest": "The model cache owns the server's configuration; "
    "HandleReloadConfigRequest is not open to clients.",
}

MODEL_SPEC = 1  # in every request; a MultiInferenceRequest has it in each of its tasks, which are its field 1
NAME, VERSION, SIGNATURE, LABEL = 1, 2, 3, 4  # fields of ModelSpec
_INT64_VALUE = 1  # the field of google.protobuf.Int64Value


class Spec:
    """A ModelSpec as protobuf would read it from all its occurrences: they are merged, the last one wins."""

    __slots__ = ("label", "name", "signature", "version")

    def __init__(self) -> None:
        self.name = b""
        self.signature = b""
        self.version: int | None = None
        self.label: bytes | None = None

    def merge(self, message: bytes) -> None:
        """Takes in one more occurrence. `version` and `version_label` are one of: the later clears the other."""
        for number, wire, _, _, body, end in walk(message):
            if wire != LEN:
                continue
            if number == NAME:
                self.name = message[body:end]
            elif number == SIGNATURE:
                self.signature = message[body:end]
            elif number == LABEL:
                self.label, self.version = message[body:end], None
            elif number == VERSION:
                self.label, self.version = None, _int64_value(message[body:end], self.version or 0)

    def call(self, verb: Verb) -> Call:
        """The call that this names. Raises CallError(INVALID) for a bad name, version or label."""
        return Call(
            InferenceProtocol.TFS_GRPC,
            verb,
            check_name(decode(self.name)),
            None if self.version is None else check_version(str(self.version)),
            None if self.label is None else check_label(decode(self.label, "version label")),
            decode(self.signature, "signature name") or None,
        )


class SpecFinder:
    """Finds the model_spec of a request: the first one that has a name. See docs/decisions/020."""

    __slots__ = ("_seen", "_spec", "_verb")
    wanted = frozenset((MODEL_SPEC,))

    def __init__(self, verb: Verb) -> None:
        self._verb = verb
        self._spec = Spec()
        self._seen = False

    def field(self, number: int, content: bytes | None) -> Call | None:
        """Takes the request's next field; the call, once it is named."""
        if content is None:
            return None
        self._seen = True
        self._spec.merge(content)
        return self._spec.call(self._verb) if self._spec.name else None

    def end(self) -> Call | None:
        """The request is over, and named nothing: the error that TF Serving gives."""
        raise CallError(Reason.INVALID, "ModelSpec has no name specified." if self._seen else "Missing ModelSpec")


class TaskFinder:
    """Finds the model of a MultiInferenceRequest: its first task's.

    TF Serving takes the servable of the first task and refuses the request if another task names another model.
    """

    __slots__ = ()
    wanted = frozenset((1,))

    def __init__(self, verb: Verb) -> None:
        pass

    def field(self, number: int, content: bytes | None) -> Call | None:
        """Takes the request's next field; the call, once it is named."""
        if content is None:
            return None
        spec = task_spec(content)
        return spec.call(Verb.MULTI_INFERENCE) if spec.name else self.end()

    def end(self) -> Call | None:
        """The request is over, and named nothing: the error that TF Serving gives."""
        raise CallError(Reason.INVALID, "ModelSpec has no name specified.")


def task_spec(task: bytes) -> Spec:
    """The spec of one InferenceTask."""
    spec = Spec()
    for field in walk(task):
        if field.number == MODEL_SPEC and field.wire == LEN:
            spec.merge(task[field.body : field.end])
    return spec


def _int64_value(message: bytes, value: int) -> int:
    for field in walk(message):
        if field.number == _INT64_VALUE and field.wire == VARINT:
            value = field.value
    return value - (1 << 64) if value >= 1 << 63 else value
