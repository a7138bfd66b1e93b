"""The `nodes` section of the configuration: the nodes that the configuration lists."""

from collections.abc import Sequence
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from mesh.address import parse_endpoint
from mesh.discovery.merge import merge
from mesh.node import Node
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

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.grpc is None and self.rest is None:
            raise ValueError(f"Node {self.id!r} has neither a grpc nor a rest endpoint.")
        return self

    def node(self) -> Node:
        """The node that this section describes."""
        return Node(self.id, self.grpc, self.rest, self.zone, self.weight, frozenset(self.models), self.residency)


AnySequence = TypeVar("AnySequence", bound=Sequence[NodeSettings])


def distinct_nodes(nodes: AnySequence) -> AnySequence:
    """The same list, if no two nodes in it share an id or an endpoint. Raises ValueError that names both."""
    conflicts = merge([("this list", (each.node() for each in nodes))]).conflicts
    if conflicts:
        raise ValueError(" ".join(conflicts))
    return nodes


NodeList = Annotated[tuple[NodeSettings, ...], AfterValidator(distinct_nodes)]
"""The type of a list of nodes in the configuration."""
