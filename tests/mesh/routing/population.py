"""Populations of nodes and models for the tests of this room, and a router that knows nothing yet."""

from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.routing.router import Router
from mesh.routing.settings import RoutingSettings


def node(number: int, **changes: object) -> Node:
    values: dict[str, object] = {
        "id": f"node-{number}",
        "grpc": f"10.0.{number // 256}.{number % 256}:8500",
        "rest": f"10.0.{number // 256}.{number % 256}:8501",
    }
    return Node(**{**values, **changes})  # type: ignore[arg-type]


def nodes(count: int) -> list[Node]:
    return [node(number) for number in range(count)]


def models(count: int) -> list[str]:
    return [f"tenant-{number % 97}/model-{number}" for number in range(count)]


def router(load_waits: LoadWaits | None = None, **settings: object) -> Router:
    """Of these routing settings, with a cache map of its own."""
    return Router(RoutingSettings(**settings), CacheMap(), load_waits or LoadWaits())  # type: ignore[arg-type]
