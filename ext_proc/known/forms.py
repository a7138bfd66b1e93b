"""In which forms calls come that a map may know, and how each of them says its model."""

import re
from enum import IntFlag
from urllib.parse import quote

from ext_proc.contract import (
    BEYOND_THE_NAME,
    GRPC_TIMEOUT,
    KNOWN_METHODS,
    MODEL_HEADER,
    NAMED_HEADER,
    SEGMENT_SAFE,
)
from ext_proc.processing.request import Head
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.bounded import ByteMemo
from mesh.node import ProtocolKind

_TFS_SAFE = "!$&'()*+,;=@"
_V2_SAFE = "!$&'()*+,;=:@"


class Form(IntFlag):
    """A form of calls; a model has an entry of the map for each in which it is called."""

    TFS_PREDICT = 1
    TFS_CLASSIFY = 2
    TFS_REGRESS = 4
    V2_INFER = 8
    GRPC = 16

    @property
    def kind(self) -> ProtocolKind:
        """The endpoint of a node that takes such calls."""
        return "grpc" if self is Form.GRPC else "rest"


FORMS = tuple(Form)
GRPC_FORMS = int(Form.GRPC)

_BEYOND = frozenset(BEYOND_THE_NAME)
_TIMEOUT = re.compile(GRPC_TIMEOUT)

_REST = {
    (InferenceProtocol.TFS_REST, Verb.PREDICT): Form.TFS_PREDICT,
    (InferenceProtocol.TFS_REST, Verb.CLASSIFY): Form.TFS_CLASSIFY,
    (InferenceProtocol.TFS_REST, Verb.REGRESS): Form.TFS_REGRESS,
    (InferenceProtocol.V2_REST, Verb.INFER): Form.V2_INFER,
}
_REST_BITS = {key: int(form) for key, form in _REST.items()}


def form_of(head: Head, call: Call) -> int:
    """The form of a call that says its model and no version; 0 if no map could know it."""
    if call.version is not None or call.label is not None:
        return 0
    if call.protocol.is_grpc:
        named = NAMED_HEADER in head.headers or MODEL_HEADER in head.headers
        return GRPC_FORMS if named and head.headers.get(":path") in KNOWN_METHODS else 0
    return _REST_BITS.get((call.protocol, call.verb), 0)


def says_more(head: Head, call: Call, form: int) -> bool:
    """Whether a call of that form says more than a map knows, so that Envoy asks though the map has its model.

    The map itself says the same in Envoy's words: `ext_proc.known.map_file`.
    """
    headers = head.headers
    if headers.get(":method") != "POST" or not _BEYOND.isdisjoint(headers):
        return True
    if form != GRPC_FORMS:
        if headers.get(":path") != _SPELLINGS[form, call.model]:
            return True
    elif headers.get(NAMED_HEADER, headers.get(MODEL_HEADER)) != _SPELLINGS[form, call.model]:
        return True
    timeout = headers.get("grpc-timeout")
    return timeout is not None and _TIMEOUT.fullmatch(timeout) is None


def spelling(form: Form, model: str) -> str:
    """What a call in that form says where its model is this one: its path, or the header that names it.

    The one spelling that a map knows; a call that spells the name otherwise asks the server.
    """
    match form:
        case Form.TFS_PREDICT:
            return f"/v1/models/{quote(model, safe=_TFS_SAFE)}:predict"
        case Form.TFS_CLASSIFY:
            return f"/v1/models/{quote(model, safe=_TFS_SAFE)}:classify"
        case Form.TFS_REGRESS:
            return f"/v1/models/{quote(model, safe=_TFS_SAFE)}:regress"
        case Form.V2_INFER:
            return f"/v2/models/{quote(model, safe=_V2_SAFE)}/infer"
    return quote(model, safe=SEGMENT_SAFE)


def _spelled(form_and_model: tuple[int, str]) -> str:
    return spelling(Form(form_and_model[0]), form_and_model[1])


_SPELLINGS = ByteMemo(_spelled)
