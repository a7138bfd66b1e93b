"""A call for another model: the same bytes, but for the fields or the part of the path that name the model.

Nothing else is parsed, so tensors, unknown fields and their order are what the client sent.
"""

from ext_proc.grpc_framing import prefix
from ext_proc.wire.call import Call
from ext_proc.wire.codecs import GRPC_CODECS, REST_CODECS
from ext_proc.wire.names import check_label, check_name, check_version
from ext_proc.wire.protobuf.fields import Pieces


def swap_model(call: Call, message: bytes, model: str, version: str | None, label: str | None) -> Pieces:
    """The gRPC body of `call`, made to ask for another model; `message` is the bare one, plain.

    The result is never compressed and says so in its flag byte, so grpc-encoding may stay on the call as it is;
    content-length, where there is one, must go. Arguments and errors as in `swap_message`.
    """
    pieces = swap_message(call, message, model, version, label)
    return [prefix(sum(map(len, pieces))), *pieces]


def swap_message(call: Call, message: bytes, model: str, version: str | None, label: str | None) -> Pieces:
    """The bare message of a gRPC call, plain, made to ask for another model.

    `version` and `label`: at most one; with neither, the request asks for the latest version. Raises CallError as
    naming does, for the new name too, INVALID for a MultiInference call whose tasks name several models, and
    UNSUPPORTED for a label in V2, which has none.
    """
    _check(model, version, label)
    return GRPC_CODECS[call.protocol].rename_message(call.verb, message, model, version, label)


def swap_path(call: Call, path: str, model: str, version: str | None, label: str | None) -> str:
    """The REST path of `call`, made to ask for another model; the query is kept. Version and label as above."""
    _check(model, version, label)
    place, mark, query = path.partition("?")
    root, *parts = place.removeprefix("/").split("/")
    parts = REST_CODECS[call.protocol].rename_path(parts, model, version, label)
    return "/" + "/".join([root, *parts]) + mark + query


def _check(model: str, version: str | None, label: str | None) -> None:
    check_name(model)
    if version is not None:
        check_version(version)
    if label is not None:
        check_label(label)
