"""The xDS resources of a sidecar as a static bootstrap: what a control plane would send later stands in the file.

Ports move to free ones of the loopback, endpoints come into their clusters, and secrets from files. Everything else
stays as Kuma made it.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ext_proc.kuma.patching.resources import CLUSTER, LISTENER

ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Identity:
    """The files of one sidecar: its certificate, its key, and the authority that it trusts (PEM)."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Places:
    """Where things are on this machine: ports by the address and port that the mesh says, folders by the mesh's.

    An address that is not among the `ports` stays what it is; as an endpoint it is left out, if there are any `ports`.
    """

    ports: Mapping[tuple[str, int], int] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


def standalone(
    resources: Mapping[str, Mapping[str, Any]], admin: str, places: Places, identity: Identity | None
) -> dict[str, Any]:
    """The bootstrap of a sidecar that has these resources (type -> name -> resource). `admin` is ip:port."""
    moved = _moved(resources, places)
    assignments = _moved(_here(resources.get(ASSIGNMENT, {}), places), places)
    clusters = [_static(cluster, assignments) for cluster in moved.get(CLUSTER, {}).values()]
    host, _, port = admin.rpartition(":")
    static: dict[str, Any] = {"clusters": clusters, "listeners": list(moved.get(LISTENER, {}).values())}
    if identity is not None:
        static["secrets"] = list(_secrets(resources, identity))
    return {
        "node": {"id": "sidecar", "cluster": "mesh"},
        "admin": {"address": {"socketAddress": {"address": host, "portValue": int(port)}}},
        "staticResources": static,
    }


def addresses(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """The addresses and ports that resources name: of listeners, endpoints and local services."""
    for found in _dicts(resources):
        if "portValue" in found and "address" in found:
            yield found["address"], found["portValue"]


def trusted_names(resources: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The SPIFFE ids that a client's sidecar wants of the nodes that it calls."""
    matchers = [each for found in _dicts(resources) for each in found.get("matchTypedSubjectAltNames", ())]
    return {each["matcher"]["exact"] for each in matchers if "exact" in each.get("matcher", {})}


def permit_only(resources: Mapping[str, Mapping[str, Any]], caller: str) -> None:
    """Has the RBAC filters allow one SPIFFE id and no other, in the form in which each version of Kuma writes them."""
    for found in _dicts(resources):
        if found.get("name") != "envoy.filters.http.rbac":
            continue
        config = found["typedConfig"]
        for policy in config.get("rules", {}).get("policies", {}).values():
            policy["principals"] = [{"authenticated": {"principalName": {"exact": caller}}}]
        for matcher in config.get("matcher", {}).get("matcherList", {}).get("matchers", ()):
            matcher["predicate"]["singlePredicate"]["valueMatch"] = {"exact": caller}


def _moved(value: Any, places: Places) -> Any:
    if isinstance(value, list):
        return [_moved(each, places) for each in value]
    if isinstance(value, Mapping):
        if "portValue" in value and (found := (value.get("address", ""), value["portValue"])) in places.ports:
            return {**value, "address": LOOPBACK, "portValue": places.ports[found]}
        return {
            name: _path(each, places) if name == "path" and isinstance(each, str) else _moved(each, places)
            for name, each in value.items()
            if not (name == "sdsConfig" and "ads" in each)  # secrets stand in the bootstrap
        }
    return value


def _here(assignments: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """The endpoints that are on this machine."""
    found = copy.deepcopy(dict(assignments))
    for assignment in found.values() if places.ports else ():
        for group in assignment.get("endpoints", ()):
            group["lbEndpoints"] = [each for each in group["lbEndpoints"] if set(addresses(each)) & set(places.ports)]
    return found


def _path(path: str, places: Places) -> str:
    for theirs, ours in places.folders.items():
        if path.startswith(f"{theirs}/"):
            return ours + path.removeprefix(theirs)
    return path


def _static(cluster: dict[str, Any], assignments: Mapping[str, Any]) -> dict[str, Any]:
    if cluster.get("type") != "EDS":
        return cluster
    rest = {name: each for name, each in cluster.items() if name != "edsClusterConfig"}
    assignment = assignments.get(cluster["name"], {"clusterName": cluster["name"]})
    return {**rest, "type": "STATIC", "loadAssignment": assignment}


def _secrets(resources: Mapping[str, Mapping[str, Any]], identity: Identity) -> Iterator[dict[str, Any]]:
    own, trusted = set(), set()
    for found in _dicts(resources):
        own |= {each["name"] for each in found.get("tlsCertificateSdsSecretConfigs", ())}
        if wanted := found.get("validationContextSdsSecretConfig"):
            trusted.add(wanted["name"])
    for name in sorted(own):
        files = {"certificateChain": _file(identity.certificate), "privateKey": _file(identity.key)}
        yield {"name": name, "tlsCertificate": files}
    for name in sorted(trusted):
        yield {"name": name, "validationContext": {"trustedCa": _file(identity.authority)}}


def _file(path: Path) -> dict[str, str]:
    return {"filename": str(path)}


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        yield value  # type: ignore[misc]
        for each in value.values():
            yield from _dicts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _dicts(each)
