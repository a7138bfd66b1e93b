"""Documents of POST /explain: a call that is not made, which way it would go, and why."""

from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Literal,
    NotRequired,  # pydantic takes that of typing from Python 3.12 on
)

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from typing_extensions import TypedDict

from ext_proc.admin.documents import ModelVersionStatus, read_as

MAX_HEADERS = 64
"""Of a call that is to be explained."""
MAX_PATH = 8192
"""Characters of its path, and of the value of a header: as much as the port takes of a request of its own."""

_Name = Annotated[str, StringConstraints(pattern=r"^[0-9a-z!#$%&'*+.^_`|~-]{1,128}$")]
_Value = Annotated[str, StringConstraints(pattern=r"^[\t -~\u0080-\u00ff]*$", max_length=MAX_PATH)]


@with_config(ConfigDict(strict=True, extra="forbid"))
class CallToExplain(TypedDict):
    """A call as Envoy would show it: lower-case headers, values of a repeated one joined by commas."""

    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", max_length=MAX_PATH)]
    method: NotRequired[Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,16}$")]]
    """POST unless it says otherwise."""
    headers: NotRequired[Annotated[Mapping[_Name, _Value], Field(max_length=MAX_HEADERS)]]
    model: NotRequired[Annotated[str, StringConstraints(max_length=1024)]]
    """Of a gRPC call whose message names it, written as in `x-tbms-model`: m, m/versions/3 or m/labels/stable."""
    envoy: NotRequired[Annotated[str, StringConstraints(max_length=32)]]
    """Version of the Envoy; without it the one that asked the server last."""


class NamedCall(TypedDict):
    """What the call asks for (`ext_proc.wire.call.Call`)."""

    protocol: str
    verb: str
    model: str
    version: str | None
    label: str | None


class NameStep(TypedDict):
    """One step from the name that the call uses to the models that are asked."""

    name: str
    kind: Literal["alias", "label", "split", "virtual"]
    leads_to: str
    among: Mapping[str, float]
    """All sides of a split, with their weights."""


class CandidateExplanation(TypedDict):
    """One model that may answer."""

    model: str
    """With its version or label, as in `bert;version=3`."""
    estimate_ms: float
    live: bool
    """Whether the estimate was measured."""
    cold: bool
    """Whether it includes the load of a model that its node does not hold."""
    node: str | None
    """Id of the node that it would go to now; None: there is none."""


class RankExplanation(TypedDict):
    """One rank of a race: a model, or a mix of several (`mix`: max or avg)."""

    mix: str | None
    starts_ms: float
    """When it is to start, from the call's arrival; sooner where a better one fails."""
    latest_ms: float
    """The last moment at which it is expected to answer in time."""
    candidates: Sequence[CandidateExplanation]


class NodeReasons(TypedDict):
    """One node, and how it stands for the model."""

    id: str
    address: str | None
    """ip:port for such calls."""
    place: int | None
    """0: the call goes there; 1 and on: asked next where that one refuses. None: it is not asked."""
    rank: int | None
    """Position in the model's order of nodes, 0 is its home; None: it is no candidate."""
    alive: bool
    state: str
    """Of the model there: available, loading, draining, failed, absent."""
    told_by: Literal["stream", "declaration", "reply", "nobody"]
    """From where that is known."""
    leaving: bool
    remote: bool
    """In another zone than this edge."""
    over_bound: bool
    """One more call would be more than its share of the load."""
    load: float
    load_seconds: float | None
    """How long a load of the model would take there, or the one that goes on; None: none is needed, or not known."""
    why: str


class ShareExplanation(TypedDict):
    """A share of a known model's calls, from 0 to 1, and where they go."""

    share: float
    nodes: Sequence[str]


class MapExplanation(TypedDict):
    """What the map of known calls has to do with the call."""

    absence: str | None
    """Why the map has no nodes for it (`mesh.routing.known.Absence`); None: it has."""
    taken: bool | None
    """Whether Envoy has in force what the file says; None: it cannot be asked."""
    shares: Sequence[ShareExplanation]


class Refusal(TypedDict):
    """The error that the client would get."""

    http: int
    grpc: str
    message: str


class EdgeExplanation(TypedDict):
    """What an edge would do with the call now."""

    role: Literal["edge"]
    way: str
    """A word of `ext_proc.edge.ways.Way`."""
    ground: str
    """A word of `ext_proc.edge.ways.Ground`; empty where the way says all."""
    why: str
    call: NamedCall | None
    names: Sequence[NameStep]
    goes_to: str | None
    """The model that is asked, of a race the primary."""
    limit_ms: float | None
    answer: str | None
    ranks: Sequence[RankExplanation]
    shadows: Sequence[str]
    session_node: str | None
    map: MapExplanation | None
    """None: no map is kept."""
    nodes: Sequence[NodeReasons]
    refusal: Refusal | None


class NodeExplanation(TypedDict):
    """What a node would do with the call now."""

    role: Literal["node"]
    way: str
    """A word of `ext_proc.node.ways.NodeWay`."""
    why: str
    call: NamedCall | None
    resident: bool | None
    """Whether the call finds its model in the model server; None: it needs none."""
    load_seconds: float | None
    """How long it would wait for it; 0 where it is resident, None where nothing is known."""
    residency: str | None
    """Of the model, as edges are told."""
    leaving: bool
    versions: Sequence[ModelVersionStatus]
    """All that the node knows of the model."""
    refusal: Refusal | None


Explanation = EdgeExplanation | NodeExplanation
_STRICT = ConfigDict(strict=True)
_CALL: TypeAdapter[CallToExplain] = TypeAdapter(CallToExplain)
_EXPLANATION: TypeAdapter[Explanation] = TypeAdapter(
    Annotated[Explanation, Field(discriminator="role")], config=_STRICT
)


def read_call(document: object) -> CallToExplain:
    """What is to be explained, as it came from the wire. Raises TbmsError that names the field at fault."""
    return read_as(_CALL, document)


def read_explanation(document: object) -> Explanation:
    """The answer of another process. Raises TbmsError that names the field at fault and what is expected."""
    return read_as(_EXPLANATION, document, tagged=True)
