"""Populations of nodes and models for the tests of this room."""

from mesh.node import Node


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
