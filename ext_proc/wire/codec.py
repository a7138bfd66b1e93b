"""What a codec is: all that one protocol knows of its calls, as one object. The four stand in `ext_proc.wire.codecs`.

A codec keeps nothing between calls, and checks nothing that all protocols have in common: names are checked before it
writes them (`rewrite`), bodies are unpacked before it reads them (`framing`, `outputs`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ext_proc.wire.batch import BatchCodec
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.output_arrays import Array, Outputs
from ext_proc.wire.protobuf.fields import Pieces


class Codec(Protocol):
    """What every protocol can do. For gRPC a body is the bare message, for REST the body without content-encoding."""

    batches: BatchCodec
    """How its calls share a batch."""

    def error_body(self, message: str) -> bytes:
        """An error of one sentence in the server's own words; for gRPC the text of grpc-message, in UTF-8."""

    def decode_outputs(self, headers: Mapping[str, str], body: bytes) -> dict[str, Array]:
        """Name to array, of every output of a reply to predict or infer. `headers` are the reply's, lower-case.

        Arrays have the shape and type that the reply gives them, and may be read-only. Raises OutputError, which
        names the output, for anything but floats and integers.
        """

    def encode_outputs(
        self, headers: Mapping[str, str], body: bytes, outputs: Outputs
    ) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """The reply with these outputs in place of its own of the same names, each in the form that it had.

        With it the headers to set, where they tell the layout of the body. Raises OutputError.
        """


class GrpcCodec(Codec, Protocol):
    """A protocol whose calls are named by their message."""

    methods: Mapping[str, "Method"]
    """By path: the methods that ask for a model."""
    refused: Mapping[str, str]
    """By path: the methods that are not open to clients, and what they are told."""

    def rename_message(self, verb: Verb, message: bytes, model: str, version: str | None, label: str | None) -> Pieces:
        """The request, made to ask for another model; every byte that does not name it stays.

        At most one of version and label; with neither, the latest version is asked for. Raises CallError.
        """


class RestCodec(Codec, Protocol):
    """A protocol whose calls are named by their path."""

    roots: tuple[str, ...]
    """The first segments of its paths, as they are written."""

    def name_path(self, parts: Sequence[str]) -> Call | None:
        """The call that a path names; `parts` are its segments after the root, as sent, without the query.

        None if it is none of this protocol's. Raises CallError: DENIED if it is not open to clients, INVALID if it is
        one that the server would call malformed.
        """

    def rename_path(self, parts: Sequence[str], model: str, version: str | None, label: str | None) -> list[str]:
        """The segments of a path that `name_path` names, made to ask for another model. As in `rename_message`."""


class Finder(Protocol):
    """Finds the model in the top-level fields of one kind of request."""

    wanted: frozenset[int]

    def field(self, number: int, content: bytes | None) -> Call | None:
        """Takes the next field: its content if it is wanted and length-delimited, else None."""

    def end(self) -> Call | None:
        """The message is over. Raises CallError(INVALID) if it should have named a model."""


class Method(NamedTuple):
    """One gRPC method: what it asks for, and what finds the model in its requests."""

    protocol: InferenceProtocol
    verb: Verb
    finder: Callable[[Verb], Finder]
