"""The `nodes` section of the configuration: the nodes that the configuration lists."""

from collections.abc import Sequence
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from mesh.address import parse_endpoint
from mesh.discovery.merge import merge
from mesh.node import Node, ProtocolKind, ReachedBy
from mesh.settings import ModelName, Settings


def _endpoint(text: str) -> str:
    return str(parse_endpoint(text))


EndpointText = Annotated[str, AfterValidator(_endpoint)]


class NodeSettings(Settings):
    """A model server that the configuration names."""

    id: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="Name of the node. Models are spread by it, so it should stay when the address changes.",
    )
    grpc: EndpointText | None = Field(default=None, description="ip:port of its gRPC API, as Envoy knows it.")
    rest: EndpointText | None = Field(default=None, description="ip:port of its REST API, as Envoy knows it.")
    residency: EndpointText | None = Field(
        default=None, description="ip:port of `node.publish` of its tbms, which says what it holds."
    )
    zone: str = Field(default="", max_length=253, description="The zone that it stands in.")
    weight: float = Field(
        default=1.0, gt=0.0, le=1000.0, description="Its share of models and calls, relative to the other nodes."
    )
    models: tuple[ModelName, ...] = Field(
        default=(),
        description="The models that it holds, where that is a fixed set. Empty: it may be asked for any.",
    )

    reached_by: ReachedBy = Field(
        default="endpoint",
        description="How Envoy gets calls to it: by its endpoint, or, to another zone, by a route that a header names: "
        "then `grpc` and `rest` are where that route leads, needed only where Envoy's configuration is rendered.",
    )
    speaks: tuple[ProtocolKind, ...] = Field(
        default=(), max_length=2, description="With `reached_by: header`: what it takes, where no address says so."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.reached_by == "endpoint" and self.speaks:
            raise ValueError(f"Node {self.id!r}: `speaks` is for `reached_by: header`; endpoints say it themselves.")
        if self.grpc is None and self.rest is None and not self.speaks:
            why = ", and says nothing of what it speaks" if self.reached_by == "header" else ""
            raise ValueError(f"Node {self.id!r} has neither a grpc nor a rest endpoint{why}.")
        return self

    def node(self) -> Node:
        """The node that this section describes."""
        models, speaks = frozenset(self.models), frozenset(self.speaks)
        return Node(
            self.id, self.grpc, self.rest, self.zone, self.weight, models, self.residency, self.reached_by, speaks
        )


AnySequence = TypeVar("AnySequence", bound=Sequence[NodeSettings])


def distinct_nodes(nodes: AnySequence) -> AnySequence:
    """The same list, if no two nodes in it share an id or an endpoint. Raises ValueError that names both."""
    conflicts = merge([("this list", (each.node() for each in nodes))]).conflicts
    if conflicts:
        raise ValueError(" ".join(conflicts))
    return nodes


NodeList = Annotated[tuple[NodeSettings, ...], AfterValidator(distinct_nodes)]
"""The type of a list of nodes in the configuration."""
