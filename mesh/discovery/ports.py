"""Ports: what nodes listen on, where a source knows their addresses only."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mesh.discovery.finds import joined
from mesh.settings import Settings

Port = Annotated[int, Field(ge=1, le=65535)]


class NodePorts(Settings):
    """The ports of every node of a source; at least one of `grpc` and `rest`."""

    grpc: Port | None = Field(None, description="Port of the gRPC API.")
    rest: Port | None = Field(None, description="Port of the REST API.")
    residency: Port | None = Field(None, description="Port of `node.publish`, where nodes say what they hold.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.grpc is None and self.rest is None:
            raise ValueError("neither a grpc nor a rest port is given")
        return self

    def at(self, ip: str) -> dict[str, Any]:
        """The endpoints of the node with this address, as fields of `NodeSettings`."""
        return {"grpc": joined(ip, self.grpc), "rest": joined(ip, self.rest), "residency": joined(ip, self.residency)}
