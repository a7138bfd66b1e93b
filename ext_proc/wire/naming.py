"""Which model a call asks for: from its headers if they say it, from the first bytes of its body if not."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, unquote

from ext_proc.contract import MODEL_HEADER, NAMED_HEADER, SEGMENT_SAFE
from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call
from ext_proc.wire.codec import Method
from ext_proc.wire.codecs import GRPC_CODECS, REST_CODECS
from ext_proc.wire.content_type import is_grpc
from ext_proc.wire.framing import FirstMessage
from ext_proc.wire.names import check_label, check_name, check_version, quoted
from ext_proc.wire.protobuf.scan import Scanner
from mesh.bounded import ByteMemo

STEP: Final = 1 << 20  # plain bytes of a packed message that are read in one go: a few milliseconds

_METHODS: Final = {path: method for codec in GRPC_CODECS.values() for path, method in codec.methods.items()}
_REFUSED: Final = {path: told for codec in GRPC_CODECS.values() for path, told in codec.refused.items()}
_ROOTS: Final = {root: codec for codec in REST_CODECS.values() for root in codec.roots}


def name_call(headers: Mapping[str, str], limit: int) -> "Call | Unnamed | None":
    """What the request with these lower-case headers asks for, or what will find it in its body.

    None: not an inference call, passes untouched. `limit` bounds a gRPC message in bytes. Raises CallError for a
    name that cannot be, a path that cannot be, and a method that is not open to clients.
    """
    path = headers.get(":path", "")
    method = _METHODS.get(path)
    if method is None:
        return _BY_PATH[path]
    content_type = headers.get("content-type", "")
    if content_type != "application/grpc" and not is_grpc(content_type):  # the usual one costs no call
        return None
    model = headers.get(MODEL_HEADER)
    if model is None:
        model = headers.get(NAMED_HEADER)
    if model is not None:
        return _BY_HEADER[path, model]
    return Unnamed(method, headers.get("grpc-encoding", "identity"), limit)


def is_method(path: str) -> bool:
    """Whether the path is that of a gRPC method whose calls name a model."""
    return path in _METHODS


def name_logged(path: str, model: str | None) -> Call | None:
    """What a call with this path asked for, whose `x-tbms-model` was `model`; None where the two do not tell."""
    try:
        if path not in _METHODS:
            return _BY_PATH[path]
        return None if model is None else _BY_HEADER[path, model]
    except CallError:
        return None


class Unnamed:
    """A gRPC call whose body has to be read; it is fed chunks until it has found the model.

    A packed message is unpacked in steps of STEP bytes, since a few packed bytes may be many MiB: `waits` says that
    what was fed is not all read, and `go_on` is to be called.
    """

    __slots__ = ("_fed", "_finder", "_last", "_message", "_named", "_pieces", "_scanner", "protocol", "verb")

    def __init__(self, method: Method, encoding: str, limit: int) -> None:
        self.protocol = method.protocol
        self.verb = method.verb
        self._finder = method.finder(method.verb)
        self._message = FirstMessage(encoding, limit)
        self._scanner = Scanner(self._finder.wanted)
        self._named: Call | None = None
        self._pieces: Iterator[bytes] | None = None  # what is left of the chunk that is being read
        self._fed: list[bytes] = []  # chunks behind it
        self._last = False

    @property
    def waits(self) -> bool:
        """Whether something is left to read of what was fed."""
        return self._pieces is not None

    def feed(self, chunk: bytes, last: bool) -> Call | None:
        """Takes the next bytes of the body; the call, once it is named.

        None means that more is needed; with `last`, and nothing that waits, it means that the call needs no model
        (the statistics of all models), so that it passes untouched. Only the first message counts. Raises CallError.
        """
        if self._named is not None:
            return self._named
        self._last = last
        if self._pieces is None:
            self._pieces = self._message.feed(chunk)
        else:
            self._fed.append(chunk)
        return self.go_on()

    def go_on(self) -> Call | None:
        """Reads the next step of what waits; as `feed`."""
        message, scanner, finder = self._message, self._scanner, self._finder
        room = STEP
        while self._pieces is not None:
            for piece in self._pieces:
                scanner.size = message.plain_size
                for number, content in scanner.feed(piece):
                    named = finder.field(number, content)
                    if named is not None:
                        self._named, self._pieces = named, None
                        return named
                room -= len(piece)
                if room <= 0 and message.packed:
                    return None
            self._pieces = message.feed(self._fed.pop(0)) if self._fed else None
        if message.complete:
            scanner.end()
            self._named = finder.end()
        elif self._last:
            message.end()
        return self._named


def write_model(model: str, version: str | None = None, label: str | None = None) -> str:
    """What `x-tbms-model` says: `m`, `m/versions/3` or `m/labels/stable`, percent-encoded as in a REST call's path."""
    return _WRITTEN[model, version, label]


def _write(which: tuple[str, str | None, str | None]) -> str:
    model, version, label = which
    name = quote(model, safe=SEGMENT_SAFE)
    if version is not None:
        return f"{name}/versions/{version}"
    return name if label is None else f"{name}/labels/{quote(label, safe=SEGMENT_SAFE)}"


def _by_path(path: str) -> Call | None:
    """What a path names that is no gRPC method of ours."""
    refusal = _REFUSED.get(path)
    if refusal is not None:
        raise CallError(Reason.DENIED, refusal)
    root, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
    if "%" in root:
        root = unquote(root, errors="surrogateescape")  # some servers route by the decoded path
    codec = _ROOTS.get(root)
    return None if codec is None else codec.name_path(rest.split("/"))


def _by_header(path_and_value: tuple[str, str]) -> Call:
    path, value = path_and_value
    method = _METHODS[path]
    part = f"{MODEL_HEADER} header"
    model, *which = [unquote(step, errors="surrogateescape") if "%" in step else step for step in value.split("/")]
    version = label = None
    match which:
        case []:
            pass
        case ["versions", number]:
            version = check_version(number)
        case ["labels", text]:
            label = check_label(text)
        case _:
            raise CallError(
                Reason.INVALID, f"The {part} {quoted(value)} is not MODEL, MODEL/versions/N or MODEL/labels/LABEL."
            )
    return Call(method.protocol, method.verb, check_name(model, part), version, label)


# Clients ask for the same models again and again; what only one call says, or a hostile one, is soon forgotten.
_WRITTEN: Final = ByteMemo(_write)
_BY_PATH: Final = ByteMemo(_by_path)
_BY_HEADER: Final = ByteMemo(_by_header)
