"""TF Serving's gRPC API: its methods, and where its requests name their model."""

from collections.abc import Callable, Mapping

from ext_proc.errors import CallError, Reason
from ext_proc.wire.batch import BatchCodec
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codec import Method
from ext_proc.wire.names import check_label, check_name, check_version, decode
from ext_proc.wire.output_arrays import Array, Outputs
from ext_proc.wire.protobuf.fields import (
    LEN,
    VARINT,
    Field,
    Pieces,
    len_field,
    malformed,
    varint_field,
    walk,
    without,
)
from ext_proc.wire.tfs import grpc_outputs
from ext_proc.wire.tfs.grpc_batch import TfsGrpcBatches

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"

MODEL_SPEC = 1  # in every request; a MultiInferenceRequest has it in each of its tasks, which are its field 1
NAME, VERSION, SIGNATURE, LABEL = 1, 2, 3, 4  # fields of ModelSpec
MAX_SPECS = 65_536  # bytes of all model_specs of a request: bounds the time that reading them takes
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


def _named_fields(model: str, version: str | None, label: str | None) -> bytes:
    """The fields of a ModelSpec that say which model."""
    out = len_field(NAME, model.encode())
    if version is not None:
        number = int(version)
        return out + len_field(VERSION, varint_field(_INT64_VALUE, number) if number else b"")
    return out if label is None else out + len_field(LABEL, label.encode())


def _swap_specs(message: bytes, named: bytes) -> Pieces:
    """A TF Serving request: the first model_spec names the model, all of them keep what else they say."""
    swaps = iter([named])
    count = 0

    def swap(field: Field, content: bytes) -> bytes:
        nonlocal count
        count += len(content)
        if count > MAX_SPECS:
            raise malformed("model_specs are too large", field.start)
        return b"".join([next(swaps, b""), *without(content, {NAME, VERSION, LABEL})])

    swapped = _swap_fields(message, swap)
    # A call that its header named may have none: it is given one.
    return [len_field(MODEL_SPEC, named), *swapped] if next(swaps, b"") else swapped


def _swap_task(named: bytes) -> Callable[[Field, bytes], bytes]:
    return lambda _, content: b"".join(_swap_specs(content, named))


def _swap_fields(message: bytes, swap: Callable[[Field, bytes], bytes]) -> Pieces:
    """The message with the content of every field 1, which model_spec and tasks are, replaced."""
    view, kept = memoryview(message), 0
    out: list[bytes | memoryview] = []
    for field in walk(message):
        if field.number == MODEL_SPEC and field.wire == LEN:
            if field.end - field.body > MAX_SPECS:
                raise malformed("model_specs are too large", field.start)
            out += [view[kept : field.start], len_field(field.number, swap(field, message[field.body : field.end]))]
            kept = field.end
    return [*out, view[kept:]]


def _check_one_model(message: bytes) -> None:
    """TF Serving refuses tasks of several models; swapped, they would become one."""
    names, size = set(), 0
    for field in walk(message):
        if field.number == MODEL_SPEC and field.wire == LEN:
            size += field.end - field.body
            if size > MAX_SPECS:
                raise malformed("tasks are too large", field.start)
            names.add(task_spec(message[field.body : field.end]).name)
    if len(names) > 1:
        raise CallError(Reason.INVALID, "All ModelSpecs in a MultiInferenceRequest must access the same model name.")


class TfsGrpc:
    """The codec of TF Serving's gRPC API."""

    batches: BatchCodec = TfsGrpcBatches()
    methods: Mapping[str, Method] = {
        _PREDICTION + "Predict": Method(InferenceProtocol.TFS_GRPC, Verb.PREDICT, SpecFinder),
        _PREDICTION + "Classify": Method(InferenceProtocol.TFS_GRPC, Verb.CLASSIFY, SpecFinder),
        _PREDICTION + "Regress": Method(InferenceProtocol.TFS_GRPC, Verb.REGRESS, SpecFinder),
        _PREDICTION + "MultiInference": Method(InferenceProtocol.TFS_GRPC, Verb.MULTI_INFERENCE, TaskFinder),
        _PREDICTION + "GetModelMetadata": Method(InferenceProtocol.TFS_GRPC, Verb.METADATA, SpecFinder),
        _MODEL + "GetModelStatus": Method(InferenceProtocol.TFS_GRPC, Verb.STATUS, SpecFinder),
        "/tensorflow.serving.SessionService/SessionRun": Method(
            InferenceProtocol.TFS_GRPC, Verb.SESSION_RUN, SpecFinder
        ),
    }
    refused: Mapping[str, str] = {
        _MODEL + "HandleReloadConfigRequest": "The model cache owns the server's configuration; "
        "HandleReloadConfigRequest is not open to clients.",
    }

    def error_body(self, message: str) -> bytes:
        """See `Codec`."""
        return message.encode(errors="backslashreplace")

    def rename_message(self, verb: Verb, message: bytes, model: str, version: str | None, label: str | None) -> Pieces:
        """See `GrpcCodec`. INVALID for a MultiInference call whose tasks name several models."""
        named = _named_fields(model, version, label)
        if verb is Verb.MULTI_INFERENCE:
            _check_one_model(message)
            return _swap_fields(message, _swap_task(named))
        return _swap_specs(message, named)

    def decode_outputs(self, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        """See `Codec`."""
        return grpc_outputs.decode(body)

    def encode_outputs(
        self, headers: Mapping[str, str], body: bytes, outputs: Outputs
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """See `Codec`."""
        return grpc_outputs.encode(body, outputs), ()
