"""What an edge adds to /status: its nodes, and which of them hold what."""

import heapq
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

from ext_proc.admin.documents import (
    EdgeStatus,
    KnownNodeStatus,
    NodeResidencyStatus,
    SessionsStatus,
    SourceStatus,
    WaysStatus,
)
from ext_proc.edge.population import Population
from ext_proc.edge.sessions import Sessions
from mesh.discovery.sightings import SourceState
from mesh.node import Node
from mesh.residency.cache_map import CacheMap
from mesh.routing.router import Router

_MODELS_SHOWN = 2000


def edge_status(population: Population, router: Router, cache_map: CacheMap, sessions: Sessions) -> EdgeStatus:
    """The nodes as this edge sees them, the holders of the first models in the order of their names, the sessions."""
    names = cache_map.names()
    shown = heapq.nsmallest(_MODELS_SHOWN, names)
    return {
        "nodes": [_node_status(population, router, cache_map, node) for node in population.nodes],
        "left_out": population.conflicts,
        "sources": [_source_status(source) for source in population.sources()],
        "models": {model: _holders(cache_map, model) for model in shown},
        "models_not_shown": len(names) - len(shown),
        "sessions": cast(SessionsStatus, {"live": len(sessions), **asdict(sessions.counts)}),
    }


def _source_status(source: SourceState) -> SourceStatus:
    return {
        "name": source.name,
        "nodes": source.nodes,
        "stale": source.down is not None,
        "heard_seconds_ago": None if source.age is None else round(source.age, 1),
        "down_seconds": None if source.down is None else round(source.down, 1),
        "cause": source.cause,
        "held_back": source.held,
    }


def ways_status(known: int, by_way: Mapping[str, Mapping[str, int]]) -> WaysStatus:
    """Which ways calls went: so many by the map, the others by way and ground."""
    asked = sum(sum(grounds.values()) for grounds in by_way.values())
    share = known / (known + asked) if known + asked else None
    return {"known": known, "known_share": None if share is None else round(share, 4), "asked": by_way}


def _holders(cache_map: CacheMap, model: str) -> dict[str, str]:
    return {node: state.name.lower() for node, state in cache_map.holders(model).items()}


def _node_status(population: Population, router: Router, cache_map: CacheMap, node: Node) -> KnownNodeStatus:
    return {
        "id": node.id,
        "grpc": node.grpc,
        "rest": node.rest,
        "zone": node.zone,
        "reached_by": node.reached_by,
        "weight": node.weight,
        "alive": router.is_alive(node.id),
        "cause": population.probe_failure(node.id),
        "load": round(router.load(node.id), 2),
        "declared_models": len(node.models),
        "residency": _residency_status(population, cache_map, node),
    }


def _residency_status(population: Population, cache_map: CacheMap, node: Node) -> NodeResidencyStatus | None:
    if node.residency is None:
        return None
    heard = population.heard(node.id)
    return {
        "address": node.residency,
        "heard": heard is not None,
        "cause": population.unheard_cause(node.id),
        "leaving": cache_map.is_leaving(node.id),
        "free_models": None if heard is None or math.isinf(heard.free_models) else heard.free_models,
    }
