"""The `known` section of the configuration."""

from pydantic import Field

from mesh.routing.settings import KnownSettings


class KnownMapSettings(KnownSettings):
    """The map of known calls: docs/known-calls.md."""

    enabled: bool = Field(True, description="Off: every call asks the server.")
    file: str | None = Field(
        None,
        pattern=r"^/.*\.pb$",
        max_length=4096,
        description="The map's file, which server and Envoy both see. Without it the map lies beside the Unix socket "
        "of `server.listen`, called as that one with `.known.pb` behind; where that is a port, and at a node, there is "
        "none.",
    )
