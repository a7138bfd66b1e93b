"""What a row of the parity tables is: a request, the reply that is expected for it, and whose word that is.

A row is sent to every place where it applies: the embedded model server, a real Triton, and both through an edge's
Envoy; REST over every version of HTTP that the place speaks. A place may answer otherwise only where the row says so,
and why.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message


class Place(Enum):
    """Who is asked."""

    OURS = "tbms model-server"
    OURS_BY_EDGE = "tbms model-server through the edge"
    TRITON = "Triton"
    TRITON_BY_EDGE = "Triton through the edge"

    @property
    def by_edge(self) -> bool:
        return self in EDGES

    @property
    def triton(self) -> bool:
        return self in TRITONS


OURS = frozenset({Place.OURS, Place.OURS_BY_EDGE})
TRITONS = frozenset({Place.TRITON, Place.TRITON_BY_EDGE})
DIRECT = frozenset({Place.OURS, Place.TRITON})
EDGES = frozenset({Place.OURS_BY_EDGE, Place.TRITON_BY_EDGE})
EVERYWHERE = OURS | TRITONS

Pairs: TypeAlias = tuple[tuple[str, str], ...]
VERSIONS = ("1.0", "1.1", "2")


@dataclass(frozen=True)
class Http:
    """One HTTP request. `path` goes out as it is written; the length is declared, or the body `chunked`."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] | Pairs = ()
    chunked: bool = False

    @property
    def pairs(self) -> Pairs:
        return tuple(self.headers.items()) if isinstance(self.headers, Mapping) else self.headers


@dataclass(frozen=True)
class Grpc:
    """One unary gRPC call: the full name of its method, and a message or the bytes that stand for one."""

    method: str
    message: Message | bytes
    reply: type[Message] | None = None
    metadata: Pairs = ()
    compression: grpc.Compression | None = None
    timeout: float = 60.0


@dataclass(frozen=True)
class Has:
    """A JSON object with at least these members."""

    members: Mapping[str, Any]


@dataclass(frozen=True)
class Like:
    """Text that a regular expression fits as a whole."""

    pattern: str


@dataclass(frozen=True)
class Reply:
    """What has to come back.

    `status` is a number of HTTP, a name of gRPC, or CLOSED. `body`: bytes are compared as such, a dict or a list as
    JSON (a gRPC message is read as JSON, too), text with the words of a refusal: `error` of a REST body, the details
    of gRPC. None: anything. Of `headers` those that are named, in lower case; None: absent.
    """

    status: int | str
    body: bytes | str | dict[str, Any] | list[Any] | Has | Like | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class AsTriton:
    """Whatever the real Triton says in the same run: status, headers and body."""


@dataclass(frozen=True)
class Difference:
    """Why a place answers otherwise, and what."""

    reason: str
    reply: Reply


@dataclass(frozen=True)
class Row:
    """One line of a table. `about` is unique in its table.

    `source` says whose word the reply is: a report (`owner/repository#number`), a document (its URL), a file of a
    server's source (`repository: path`), or TRITON, which is asked in the same run.
    """

    about: str
    source: str
    request: Http | Grpc
    expect: Reply | AsTriton
    places: frozenset[Place] = EVERYWHERE
    versions: tuple[str, ...] = VERSIONS
    differences: Mapping[Place, Difference] = field(default_factory=dict)

    @property
    def is_report(self) -> bool:
        """Whether somebody met this in public."""
        return re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", self.source) is not None

    def at(self, place: Place) -> Reply | AsTriton:
        """What is expected there."""
        found = self.differences.get(place)
        return self.expect if found is None else found.reply


CLOSED = "closed without a reply"
TRITON = "Triton, asked in the same run"


def differs(reason: str, reply: Reply, places: frozenset[Place]) -> dict[Place, Difference]:
    """One difference of several places."""
    return dict.fromkeys(places, Difference(reason, reply))


@dataclass(frozen=True)
class Answer:
    """What came back, as rows are compared: header names in lower case, without those that each hop sets for itself.

    `body` is bytes of HTTP (unpacked), JSON of a gRPC message, or the details of a gRPC refusal.
    """

    status: int | str
    headers: Mapping[str, str]
    body: Any

    def fits(self, expected: Reply) -> bool:
        """Whether this is what the row says."""
        if self.status != expected.status:
            return False
        if any(self.headers.get(name) != value for name, value in expected.headers.items()):
            return False
        wanted = expected.body
        if wanted is None:
            return True
        if isinstance(wanted, bytes):
            return bool(self.body == wanted)
        if isinstance(wanted, str):
            return self.words == wanted
        if isinstance(wanted, Like):
            return re.fullmatch(wanted.pattern, self.words, re.DOTALL) is not None
        document = self.document
        if isinstance(wanted, Has):
            return isinstance(document, dict) and all(
                document.get(key) == value for key, value in wanted.members.items()
            )
        return bool(document == wanted)

    @property
    def document(self) -> Any:
        """The body as JSON; None where it is none."""
        if not isinstance(self.body, bytes):
            return self.body
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def words(self) -> str:
        """The words of a refusal, or else the body as text."""
        if isinstance(self.body, str):
            return self.body
        document = self.document
        if isinstance(document, dict) and list(document) == ["error"]:
            return str(document["error"])
        return self.body.decode(errors="replace") if isinstance(self.body, bytes) else json.dumps(document)
