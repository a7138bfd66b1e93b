"""Merge of sources: one set of nodes out of what several sources say."""

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.node import Node


@dataclass(frozen=True, slots=True)
class NodeSet:
    """Nodes with distinct ids and endpoints, and one sentence for each node that was left out."""

    nodes: tuple[Node, ...]
    conflicts: tuple[str, ...]


def merge(snapshots: Iterable[tuple[str, Iterable[Node]]]) -> NodeSet:
    """Put (name of the source, its nodes) together. Of two nodes that clash, the first stays.

    Two nodes with one endpoint clash: Envoy chooses by endpoint, so calls for one would reach the
    other. One node may use one endpoint for both protocols. Two nodes with one residency endpoint
    clash as well: what one holds would be believed of the other. A node whose endpoints are all those
    of one node of an earlier source is that node, told of twice, whatever it is called: no clash.
    """
    nodes: dict[str, Node] = {}
    sources: dict[str, str] = {}
    owners: dict[str, str] = {}
    conflicts: list[str] = []
    for source, found in snapshots:
        for node in found:
            endpoints = node.endpoints
            used = endpoints if node.residency is None else endpoints | {node.residency}
            if endpoints and node.id not in nodes and owners.keys().isdisjoint(used):
                nodes[node.id] = node
                sources[node.id] = source
                owners.update(dict.fromkeys(used, node.id))
                continue
            told = {owners.get(endpoint) for endpoint in endpoints}
            who = f"Node {node.id!r} of {source}"
            if not endpoints:
                conflicts.append(f"{who} has neither a grpc nor a rest endpoint.")
            elif len(told) == 1 and (same := told.pop()) is not None and sources[same] != source:
                continue
            elif node.id in nodes:
                conflicts.append(f"{who} has the id of a node of {sources[node.id]}.")
            else:
                shared = min(used & owners.keys())
                owner = owners[shared]
                conflicts.append(f"{who} has the endpoint {shared} of node {owner!r} of {sources[owner]}.")
    return NodeSet(tuple(nodes.values()), tuple(conflicts))
