"""The `server.ui` section of the configuration: what the dashboard shows beside its own process."""

from typing import Annotated

from pydantic import AfterValidator, Field

from mesh.address import parse_address
from mesh.settings import Settings

MAX_PEERS = 256
"""Of one page."""


def _peer(text: str) -> str:
    parse_address(text)
    return text


def _each_once(peers: tuple[str, ...]) -> tuple[str, ...]:
    for peer in peers:
        if peers.count(peer) > 1:
            raise ValueError(f"{peer} is listed twice")
    return peers


class UiSettings(Settings):
    """The page at `/ui` of the admin port."""

    peers: Annotated[
        tuple[Annotated[str, AfterValidator(_peer)], ...], Field(max_length=MAX_PEERS), AfterValidator(_each_once)
    ] = Field(
        (),
        description="Admin ports of other edges and nodes that the page shows as well, host:port. This process asks "
        "them, while somebody looks.",
    )
    seconds: float = Field(
        1.0, ge=0.2, le=60, description="How often the page is brought up to date, while somebody looks."
    )
