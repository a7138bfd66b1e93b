"""What a patched sidecar must not be, and what a patch must not leave undone."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ext_proc.kuma.checking.documents import Document, Finding
from ext_proc.kuma.patching.applying import Effect
from ext_proc.kuma.patching.modification import Modification
from ext_proc.kuma.patching.resources import INBOUND, PATCHED, Resource, Resources, called, managers, tags_of

RBAC = "envoy.filters.http.rbac"
_ROUTER = "envoy.filters.http.router"
# So many names are enough to see what was meant.
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Tried:
    """A policy's modification on one proxy: what it met there."""

    policy: Document
    effect: Effect
    proxy: str


def idle(tried: Iterable[Tried], resources: Resources) -> Iterator[Finding]:
    """Modifications that change nothing on a proxy.

    Several that differ in their match alone, such as one for each way of naming, are one: one of them has to do it.
    """
    together: dict[str, list[Tried]] = {}
    for each in tried:
        change = each.effect.modification
        key = f"{change.kind} {change.operation} {change.value} {change.patches}"
        together.setdefault(key, []).append(each)
    for group in together.values():
        if any(each.effect.changed for each in group):
            continue
        first = group[0]
        change = first.effect.modification
        matches = " or ".join(dict.fromkeys(f"({each.effect.modification.match})" for each in group))
        why = _why(change, first.effect, resources)
        yield first.policy.finding(
            change.where, f"{change.operation} would change nothing in {first.proxy}: {matches} matches nothing; {why}"
        )


def holes(tried: Iterable[Tried], resources: Resources) -> Iterator[Finding]:
    """Filters that were added before those by which a mesh refuses callers."""
    for each in tried:
        change = each.effect.modification
        if change.kind != "httpFilter" or not change.operation.startswith("Add") or change.value is None:
            continue
        for name in each.effect.met:
            listener = resources.listeners.get(name)
            if listener is not None and listener.origin == INBOUND and _before_rbac(change, listener):
                yield each.policy.finding(
                    change.where,
                    f"{change.operation} puts {change.value.get('name')} before {RBAC} in {name} of {each.proxy}: "
                    f"callers whom MeshTrafficPermission denies would reach it; use AddBefore {_ROUTER}",
                )
                break


@dataclass(frozen=True, slots=True)
class Service:
    """A MeshService that a route leads to: Kuma gives its callers a cluster with these two in its name."""

    name: str
    zone: str

    def is_of(self, cluster: str) -> bool:
        """Whether a cluster of this name would be its."""
        return self.name in cluster and self.zone in cluster


def routed_to(documents: Iterable[Document]) -> Iterator[Service]:
    """The services of single nodes to which the MeshHTTPRoutes among these documents lead."""
    for each in documents:
        for labels in _backends(each.spec) if each.kind == "MeshHTTPRoute" else ():
            yield Service(str(labels.get("kuma.io/display-name", "")), str(labels.get("kuma.io/zone", "")))


def broken(resources: Resources, proxy: str, services: Iterable[Service] = ()) -> Iterator[tuple[str, str]]:
    """What Envoy would not do as it reads, or what the control plane would not send: where, and what.

    Clusters of `services` are there where these policies are applied, and need not be in the samples.
    """
    services = list(services)
    for cluster in resources.clusters.values():
        where = f"cluster {cluster.name}"
        thresholds = cluster.value.get("circuitBreakers", {}).get("thresholds", ())
        priorities = Counter(each.get("priority", "DEFAULT") for each in thresholds)
        for priority, count in priorities.items():
            if count > 1:
                yield (
                    where,
                    f"in {proxy} it has {count} circuit breaker thresholds of priority {priority}, and Envoy takes the "
                    "first: before Kuma 3.0.1 a patch cannot change one, jsonPatches can",
                )
        if cluster.origin == PATCHED and cluster.value.get("type") == "EDS":
            yield where, f"in {proxy} it is added as EDS, for which nobody sends endpoints: use STATIC"
        if cluster.origin not in (PATCHED, "") and "loadBalancingPolicy" in cluster.value:
            common = cluster.value.get("commonLbConfig", {})
            clash = [name for name in ("localityWeightedLbConfig", "zoneAwareLbConfig") if name in common]
            clash += ["lbSubsetConfig"] if "lbSubsetConfig" in cluster.value else []
            if clash:
                yield where, f"in {proxy} it has loadBalancingPolicy beside {', '.join(clash)}"
    for listener in resources.listeners.values():
        where = f"listener {listener.name}"
        away = sorted(set(called(listener.value)) - set(resources.clusters)) if listener.origin == PATCHED else []
        away = [name for name in away if not any(each.is_of(name) for each in services)]
        if away:
            yield where, f"in {proxy} it calls {_some(away)}, and there is only {_listed(resources.clusters.values())}"
        for manager in managers(listener.value):
            names = Counter(each.get("name") for each in manager.get("httpFilters", ()))
            for name, count in names.items():
                if count > 1:
                    yield where, f"in {proxy} it has the filter {name} {count} times"
            if manager.get("httpFilters", [{}])[-1].get("name") != _ROUTER:
                yield where, f"in {proxy} {_ROUTER} is not its last filter"


def watched_files(modification: Modification) -> Iterator[str]:
    """Files from which Envoy would read a filter: it refuses the listener if one is not there."""
    yield from _paths(modification.value)


def _before_rbac(change: Modification, listener: Resource) -> bool:
    assert change.value is not None
    for manager in managers(listener.value):
        names = [each.get("name") for each in manager.get("httpFilters", ())]
        added = names.index(change.value.get("name")) if change.value.get("name") in names else len(names)
        if RBAC in names and added < names.index(RBAC):
            return True
        # Without mTLS there is no such filter yet; the first place is before it as soon as there is.
        if RBAC not in names and change.operation == "AddFirst":
            return True
    return False


def _why(change: Modification, effect: Effect, resources: Resources) -> str:
    """What there is instead of what a modification matches."""
    if change.kind == "cluster":
        return f"clusters: {_listed(resources.clusters.values())}"
    if change.kind == "listener" or not effect.met:
        return f"listeners: {_listed(resources.listeners.values())}"
    names = sorted(effect.met)
    found = [manager for name in names for manager in managers(resources.listeners[name].value)]
    if change.kind != "networkFilter" and not found:
        return f"{', '.join(names[:_NAMED])} is TCP: the port's appProtocol has to be http, http2 or grpc"
    if change.kind == "virtualHost":
        routes = [manager.get("routeConfig", {}) for manager in found]
        hosts = [host.get("name", "") for each in routes for host in each.get("virtualHosts", ())]
        return f"route configurations: {_some(each.get('name', '') for each in routes)}; virtual hosts: {_some(hosts)}"
    filters = [each.get("name", "") for manager in found for each in manager.get("httpFilters", ())]
    if change.kind == "networkFilter":
        chains = [chain for name in names for chain in resources.listeners[name].value.get("filterChains", ())]
        filters = [each.get("name", "") for chain in chains for each in chain.get("filters", ())]
    return f"filters of {_some(names)}: {_some(filters)}"


def _listed(resources: Iterable[Resource]) -> str:
    return _some(_described(each) for each in resources)


def _described(resource: Resource) -> str:
    tags = tags_of(resource.value).get("kuma.io/unified-name")
    about = ", ".join(part for part in (resource.origin or "origin unknown", tags) if part)
    return f"{resource.name} ({about})"


def _some(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return (", ".join(every[:_NAMED]) or "none") + more


def _backends(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name == "backendRefs" and isinstance(each, list):
                yield from (one["labels"] for one in each if isinstance(one, Mapping) and one.get("labels"))
            else:
                yield from _backends(each)
    elif isinstance(value, list):
        for each in value:
            yield from _backends(each)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name == "pathConfigSource" and isinstance(each, Mapping) and isinstance(each.get("path"), str):
                yield each["path"]
            else:
                yield from _paths(each)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each)
