"""Documents of the admin port as JSON: /status of an edge and of a node, and the answer to a command.

The roles that answer annotate with these types, the commands that ask read with the functions below. A field that a
later version adds is NotRequired, so that its commands still read an earlier server.
"""

from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Literal,
    NotRequired,  # pydantic takes that of typing from Python 3.12 on
    TypeVar,
)

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ext_proc.errors import TbmsError
from mesh.node import ReachedBy


class ProcessStatus(TypedDict):
    """What every process says of itself."""

    uptime_seconds: float
    draining: bool
    config: str
    """Path of the configuration file."""
    streams: int
    """Streams of Envoy that are open: calls in work."""
    calls: NotRequired[Mapping[str, int]]
    """Calls since the start, by how they ended for us: `known` are those that the map carried."""
    logs: NotRequired[int]
    """Access logs of Envoy that are open, one for each of its workers; without them known calls are not counted."""


class NodeResidencyStatus(TypedDict):
    """How an edge hears what a node holds."""

    address: str
    """ip:port of `node.publish` of that node."""
    heard: bool
    cause: str | None
    """Why it is not heard."""
    leaving: bool
    free_models: float | None
    """Models that it could still take; None: without a limit, or not known."""


class KnownNodeStatus(TypedDict):
    """A node, as an edge sees it. Addresses are ip:port."""

    id: str
    grpc: str | None
    rest: str | None
    zone: str
    reached_by: ReachedBy
    weight: float
    alive: bool
    cause: str | None
    """Why its last probe failed."""
    load: float
    """Calls in flight there, as far as this edge knows."""
    declared_models: int
    residency: NodeResidencyStatus | None
    """None: the node tells nothing by a stream."""


class SessionsStatus(TypedDict):
    """The sessions of an edge: those that are live, and what became of all (`mesh.routing.sessions.SessionCounts`)."""

    live: int
    opened: int
    ended: int
    idle: int
    lost: int
    pushed_out: int


class SourceStatus(TypedDict):
    """A source of nodes; the earlier ones win where two clash."""

    name: str
    nodes: int
    stale: bool
    """It cannot say at the moment what its nodes are: the last ones that it told of stay in force."""
    heard_seconds_ago: float | None
    """Since it last said what its nodes are; None: it never has."""
    down_seconds: float | None
    cause: str | None
    """Why it cannot say."""
    held_back: Sequence[str]
    """Nodes of it that come and go, and are let in later."""


class KnownMapStatus(TypedDict):
    """The map of known calls: as the server has written it, and as its Envoy has it."""

    file: str
    version: str | None
    """Of what the file says; None while it says what it said before this process."""
    models: int
    bytes: int
    age_seconds: float | None
    envoys_version: str | None
    """Of what is in force in Envoy; None where it has not told."""
    envoys_models: NotRequired[int | None]
    """Models and bytes of that; None where it is not a file of this process."""
    envoys_bytes: NotRequired[int | None]
    envoys_age_seconds: NotRequired[float | None]
    """Since Envoy was first seen to have it."""
    taken: bool | None
    """Whether that is what the file says; None where Envoy cannot be asked, or has no filter that reads a map."""
    refused: int
    """Files that Envoy has refused."""
    cause: str | None
    """Why Envoy does not tell what it has."""


class WaysStatus(TypedDict):
    """Which ways calls went since the start (`ext_proc.edge.ways`); candidates of races are left out."""

    known: int
    """By the map: the server was not asked. By Envoy's log, where some stand for others (`known.sampled_from`)."""
    known_share: float | None
    """Of all that go by the map or ask the server, from 0 to 1; None before the first."""
    asked: Mapping[str, Mapping[str, int]]
    """The others: way -> ground -> calls."""


class SpreadStatus(TypedDict):
    """How values of a kind are spread (`ext_proc.telemetry.tallies.Spread`), since the start."""

    bounds: Sequence[float]
    """Upper ends of the buckets, ascending; a last one without end follows. Seconds, or rows."""
    counts: Sequence[int]
    """Values in each bucket: one more than bounds."""
    sum: float


class RacesStatus(TypedDict):
    """What races came to since the start, of all models (`ext_proc.telemetry.races`)."""

    in_time: Mapping[str, int]
    """`yes` and `no`: whether there was an answer by the limit."""
    endings: Mapping[str, Mapping[str, int]]
    """Outcome -> why -> races."""
    candidates: Mapping[str, Mapping[str, int]]
    """Rank -> fate -> candidate calls."""
    seconds: Mapping[str, SpreadStatus]
    """Rank that answered -> arrival to answer."""
    budget_ms: float
    """Work that hedges may still start."""


class BatchesStatus(TypedDict):
    """What the batches of one model came to since the start (`ext_proc.telemetry.batches`)."""

    rows: SpreadStatus
    waits: SpreadStatus
    """Seconds from a call's arrival until its batch left."""


class EdgeStatus(TypedDict):
    """What the edge role adds."""

    nodes: Sequence[KnownNodeStatus]
    left_out: Sequence[str]
    """One sentence for each node that clashes with another one."""
    sources: Sequence[SourceStatus]
    models: Mapping[str, Mapping[str, str]]
    """Model -> node id -> state there (`mesh.residency`), of the first models in the order of their names."""
    models_not_shown: int
    sessions: NotRequired[SessionsStatus]
    known: NotRequired[KnownMapStatus]
    known_off: NotRequired[str | None]
    """Why no map of known calls is kept; None where one is."""
    ways: NotRequired[WaysStatus]
    races: NotRequired[RacesStatus]
    batches: NotRequired[Mapping[str, BatchesStatus]]
    """By model, where this edge gathers calls; models that no setting names are `(other)`."""


class ModelVersionStatus(TypedDict):
    """One model version on a node; the fields are those of `mesh.model_cache.books.status.ModelStatus`."""

    model: str
    version: int
    state: str
    pinned: bool
    in_flight: int
    waiting: int
    disk_bytes: int
    memory_bytes: int
    fetched_bytes: int
    idle_seconds: float
    state_seconds: float
    cause: str
    attempts: int
    retry_seconds: float
    needs: Sequence[str]
    batcher: NotRequired[str]


class Amounts(TypedDict):
    """Room on a node; None: without a limit."""

    models: float | None
    disk_bytes: float | None
    memory_bytes: float | None


class NodeStatus(TypedDict):
    """What the node role adds."""

    models: Sequence[ModelVersionStatus]
    capacity: Amounts
    free: Amounts
    """What is neither in use nor promised."""
    model_server: str
    """`ok`, or why it is away."""
    store_failures: Mapping[str, str]
    """Models of which the store could not be asked the last time, and why."""
    sessions: NotRequired[int]
    """Sessions that hold a model between their calls; they count as in flight on it."""
    publish: NotRequired[str | None]
    """Where edges follow it, as `node.publish` has it: the `residency` of the node as they know it."""
    batches: NotRequired[Mapping[str, BatchesStatus]]
    """By model, where this node gathers calls; models that no setting names are `(other)`."""
    known: NotRequired[KnownMapStatus]
    known_off: NotRequired[str | None]
    """Why no map of known calls is kept; None where one is."""


class EdgeDocument(ProcessStatus, EdgeStatus):
    """GET /status of an edge."""

    role: Literal["edge"]


class NodeDocument(ProcessStatus, NodeStatus):
    """GET /status of a node."""

    role: Literal["node"]


class CommandDone(TypedDict):
    """The answer to a command that a node has carried out."""

    model: str
    version: int | None
    """The version that was loaded; None where the command holds for the model as a whole."""


StatusDocument = EdgeDocument | NodeDocument
Document = TypeVar("Document")
_STRICT = ConfigDict(strict=True)
_STATUS: TypeAdapter[StatusDocument] = TypeAdapter(
    Annotated[StatusDocument, Field(discriminator="role")], config=_STRICT
)
_DONE: TypeAdapter[CommandDone] = TypeAdapter(CommandDone)


def read_status(document: object) -> StatusDocument:
    """A /status that another process has given. Raises TbmsError that names the field at fault and what is expected."""
    return read_as(_STATUS, document, tagged=True)


def read_done(document: object) -> CommandDone:
    """The answer to a command. Raises TbmsError that names the field at fault and what is expected."""
    return read_as(_DONE, document)


def read_as(adapter: TypeAdapter[Document], document: object, *, tagged: bool = False) -> Document:
    """The document as that type. `tagged`: which one of several, says its `role`.

    Raises TbmsError that names the field at fault and what is expected.
    """
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
    if fault["type"].startswith("union_tag"):
        raise TbmsError("role: edge or node is expected")
    place = [str(part) for part in fault["loc"]]
    if tagged:
        place = place[1:]  # without the role, by which the type was chosen
    raise TbmsError(f"{'.'.join(place) or 'the document'}: {fault['msg']}")
