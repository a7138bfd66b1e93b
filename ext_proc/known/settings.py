"""The `known` section of the configuration."""

from pydantic import Field

from mesh.routing.settings import KnownSettings


class KnownMapSettings(KnownSettings):
    """The map of known calls: docs/known-calls.md."""

    file: str | None = Field(
        None,
        pattern=r"^/.*\.pb$",
        max_length=4096,
        description="The map's file, where server and Envoy share a folder; without it every call asks the server.",
    )
