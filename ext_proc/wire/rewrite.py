"""A call for another model: the same bytes, but for the fields or the part of the path that name the model.

Nothing else is parsed, so tensors, unknown fields and their order are what the client sent.
"""

from collections.abc import Callable

from ext_proc.errors import CallError, Reason
from ext_proc.wire import tfs_grpc, tfs_rest, v2_grpc, v2_rest
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.fields import LEN, Field, len_field, malformed, varint_field, walk
from ext_proc.wire.framing import frame, unframe
from ext_proc.wire.names import check_label, check_name, check_version, quoted

MAX_SPECS = 65_536  # bytes of all model_specs of a request: bounds the time that reading them takes


def swap_model(
    call: Call, body: bytes, model: str, version: str | None, label: str | None, *, encoding: str, limit: int
) -> bytes:
    """The gRPC body of `call` (one framed message), made to ask for another model.

    `version` and `label`: at most one; with neither, the request asks for the latest version. `encoding` is the
    call's grpc-encoding ("identity" where it has none), `limit` the bytes that a compressed message may unpack to.

    The result is never compressed and says so in its flag byte, so grpc-encoding may stay on the call as it is;
    content-length, where there is one, must go. Raises CallError as naming does, for the new name too, INVALID for a
    MultiInference call whose tasks name several models, and UNSUPPORTED for a label in V2, which has none.
    """
    return frame(swap_message(call, unframe(body, encoding, limit), model, version, label))


def swap_message(call: Call, message: bytes, model: str, version: str | None, label: str | None) -> bytes:
    """As `swap_model`, for the bare message of a gRPC call."""
    _check(model, version, label)
    if call.protocol is InferenceProtocol.V2_GRPC:
        _no_label(model, label)
        return _swap_names(message, model, version)
    spec = _named(model, version, label)
    if call.verb is Verb.MULTI_INFERENCE:
        _check_one_model(message)
        return _swap_fields(message, _swap_task(spec))
    return _swap_specs(message, spec)


def swap_path(call: Call, path: str, model: str, version: str | None, label: str | None) -> str:
    """The REST path of `call`, made to ask for another model; the query is kept. Version and label as above."""
    _check(model, version, label)
    place, mark, query = path.partition("?")
    root, *parts = place.removeprefix("/").split("/")
    if call.protocol is InferenceProtocol.V2_REST:
        _no_label(model, label)
        parts = v2_rest.swap(parts, model, version)
    else:
        parts = tfs_rest.swap(parts, model, version, label)
    return "/" + "/".join([root, *parts]) + mark + query


def _swap_names(message: bytes, model: str, version: str | None) -> bytes:
    """A V2 request: name and version are its own fields."""
    out = [len_field(v2_grpc.NAME, model.encode())]
    if version is not None:
        out.append(len_field(v2_grpc.VERSION, version.encode()))
    return b"".join(out) + _without(message, {v2_grpc.NAME, v2_grpc.VERSION})


def _swap_specs(message: bytes, named: bytes) -> bytes:
    """A TF Serving request: the first model_spec names the model, all of them keep what else they say."""
    swaps = iter([named])
    count = 0

    def swap(field: Field, content: bytes) -> bytes:
        nonlocal count
        count += len(content)
        if count > MAX_SPECS:
            raise malformed("model_specs are too large", field.start)
        return next(swaps, b"") + _without(content, {tfs_grpc.NAME, tfs_grpc.VERSION, tfs_grpc.LABEL})

    swapped = _swap_fields(message, swap)
    # A call that its header named may have none: it is given one.
    return len_field(tfs_grpc.MODEL_SPEC, named) + swapped if next(swaps, b"") else swapped


def _swap_task(named: bytes) -> Callable[[Field, bytes], bytes]:
    return lambda _, content: _swap_specs(content, named)


def _swap_fields(message: bytes, swap: Callable[[Field, bytes], bytes]) -> bytes:
    """The message with the content of every field 1, which model_spec and tasks are, replaced."""
    view, kept = memoryview(message), 0
    out: list[bytes | memoryview] = []
    for field in walk(message):
        if field.number == tfs_grpc.MODEL_SPEC and field.wire == LEN:
            out += [view[kept : field.start], len_field(field.number, swap(field, message[field.body : field.end]))]
            kept = field.end
    return b"".join([*out, view[kept:]])


def _without(message: bytes, numbers: set[int]) -> bytes:
    """The message without its length-delimited fields of these numbers."""
    view, kept = memoryview(message), 0
    out: list[memoryview] = []
    for field in walk(message):
        if field.wire == LEN and field.number in numbers:
            out.append(view[kept : field.start])
            kept = field.end
    return b"".join([*out, view[kept:]])


def _named(model: str, version: str | None, label: str | None) -> bytes:
    """The fields of a ModelSpec that say which model."""
    out = len_field(tfs_grpc.NAME, model.encode())
    if version is not None:
        number = int(version)
        return out + len_field(tfs_grpc.VERSION, varint_field(1, number) if number else b"")
    return out if label is None else out + len_field(tfs_grpc.LABEL, label.encode())


def _check_one_model(message: bytes) -> None:
    """TF Serving refuses tasks of several models; swapped, they would become one."""
    names, size = set(), 0
    for field in walk(message):
        if field.number == tfs_grpc.MODEL_SPEC and field.wire == LEN:
            size += field.end - field.body
            if size > MAX_SPECS:
                raise malformed("tasks are too large", field.start)
            names.add(tfs_grpc.task_spec(message[field.body : field.end]).name)
    if len(names) > 1:
        raise CallError(Reason.INVALID, "All ModelSpecs in a MultiInferenceRequest must access the same model name.")


def _check(model: str, version: str | None, label: str | None) -> None:
    check_name(model)
    if version is not None:
        check_version(version)
    if label is not None:
        check_label(label)


def _no_label(model: str, label: str | None) -> None:
    if label is not None:
        raise CallError(
            Reason.UNSUPPORTED,
            f"V2 has no version labels, so {quoted(label)} of {quoted(model)} cannot be asked for.",
        )
