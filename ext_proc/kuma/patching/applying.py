"""Modifications carried out on the resources of a proxy, in order, as Kuma's plugin does after all other policies.

Source: kumahq/kuma, pkg/plugins/policies/meshproxypatch/plugin/v1alpha1, the same in 2.13.10, 2.14.3 and 3.0 but for
`keyed` (see `merging`). A modification that matches nothing changes nothing, and Kuma says nothing; here the caller is
told what it met (`Effect`).
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import jsonpatch
import jsonpointer

from ext_proc.kuma.patching.envoy_types import EnvoyTypeError, Json, MessageType, canonical, canonical_any
from ext_proc.kuma.patching.merging import merged, merged_any
from ext_proc.kuma.patching.modification import Match, Modification
from ext_proc.kuma.patching.resources import PATCHED, Resource, Resources, managers, tags_of

# The listeners of transparent proxying have two names each, and a match takes both.
_SAME_LISTENERS = [
    {f"{way}:passthrough:ipv{family}", f"self_transparentproxy_passthrough_{way}_ipv{family}"}
    for way in ("inbound", "outbound")
    for family in (4, 6)
]
_ANY_TAG = "*"


@dataclass(slots=True)
class Effect:
    """What a modification met: the clusters or listeners that matched, and how many things it changed in each."""

    modification: Modification
    met: dict[str, int] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many things it changed."""
        return sum(self.met.values())


def apply(modifications: Iterable[Modification], resources: Resources, *, keyed: bool) -> list[Effect]:
    """Carries out each modification in order, in place. `keyed`: see `merging.merged`.

    Raises EnvoyTypeError where the control plane would fail, and would send nothing of this policy to the proxy.
    """
    return [_apply(each, resources, keyed) for each in modifications]


def _apply(modification: Modification, resources: Resources, keyed: bool) -> Effect:
    effect = Effect(modification)
    if modification.kind in ("cluster", "listener"):
        named = resources.clusters if modification.kind == "cluster" else resources.listeners
        _resource(modification, named, effect, keyed)
        return effect
    for listener in [each for each in resources.listeners.values() if _listener_matches(modification, each)]:
        lists = list(_lists(modification, listener.value))
        if lists or modification.kind != "virtualHost":
            effect.met[listener.name] = sum(_change_list(modification, holder, key, keyed) for holder, key in lists)
    return effect


def _resource(modification: Modification, named: dict[str, Resource], effect: Effect, keyed: bool) -> None:
    if modification.operation == "Add":
        assert modification.value is not None
        name = modification.value.get("name", "")
        named[name] = Resource(name, PATCHED, copy.deepcopy(modification.value))
        effect.met[name] = 1
        return
    for each in [each for each in named.values() if _resource_matches(modification, each)]:
        effect.met[each.name] = 1
        if modification.operation == "Remove":
            del named[each.name]
        else:
            each.value = _patched(modification, modification.message, each.value, keyed)


def _lists(modification: Modification, listener: dict[str, Json]) -> Iterable[tuple[dict[str, Json], str]]:
    """The lists that a modification of a part of a listener works on: who holds each, and under which name."""
    if modification.kind == "networkFilter":
        return [(chain, "filters") for chain in listener.get("filterChains", ())]
    if modification.kind == "httpFilter":
        return [(manager, "httpFilters") for manager in managers(listener)]
    wanted = modification.match.routes
    routes = [manager["routeConfig"] for manager in managers(listener) if "routeConfig" in manager]
    return [(each, "virtualHosts") for each in routes if wanted is None or each.get("name") == wanted]


def _change_list(modification: Modification, holder: dict[str, Json], key: str, keyed: bool) -> int:
    """Changes one list in place, and says how many of its items it met (one where something is added)."""
    items: list[Json] = holder.setdefault(key, [])
    operation, name = modification.operation, modification.match.name
    matching = [at for at, each in enumerate(items) if name is None or each.get("name") == name]
    if operation == "Remove":
        holder[key] = [each for at, each in enumerate(items) if at not in matching]
    elif operation == "Patch":
        for at in matching:
            items[at] = _patched_item(modification, items[at], keyed)
    else:
        places = {"AddFirst": 0, "Add": len(items), "AddLast": len(items)}
        if operation in ("AddBefore", "AddAfter"):
            if not matching:
                return 0
            places = {"AddBefore": matching[0], "AddAfter": matching[0] + 1}
        items.insert(places[operation], copy.deepcopy(modification.value))
        matching = [0]
    if not holder[key]:
        del holder[key]
    return len(matching)


def _patched_item(modification: Modification, item: dict[str, Json], keyed: bool) -> dict[str, Json]:
    """An item of a list, patched: of a filter only its configuration is, whatever else the value says."""
    if modification.kind == "virtualHost":
        return _patched(modification, modification.message, item, keyed)
    there, where = item.get("typedConfig"), f"{modification.where}.value.typedConfig"
    if modification.value is None:
        if there is None:
            raise EnvoyTypeError(modification.where, f"the filter {item.get('name')} has no configuration to patch")
        found: dict[str, Json] | None = canonical_any(_json_patched(modification, there), modification.where)
    else:
        patch = modification.value.get("typedConfig")
        if patch is None or there is None:
            found = there if patch is None else copy.deepcopy(patch)
        else:
            found = merged_any(there, patch, keyed=keyed, where=where)
    rest = {name: value for name, value in item.items() if name != "configDiscovery"}
    return rest if found is None else {**rest, "typedConfig": found}


def _patched(modification: Modification, message: MessageType, value: dict[str, Json], keyed: bool) -> dict[str, Json]:
    if modification.value is None:
        return canonical(message, _json_patched(modification, value), f"{modification.where}.jsonPatches")
    where = f"{modification.where}.value"
    return merged(message, value, copy.deepcopy(modification.value), keyed=keyed, where=where)


def _json_patched(modification: Modification, document: Json) -> Json:
    """RFC 6902 with Kuma's options: parents of an added path are made, removing what is not there is no error."""
    document = copy.deepcopy(document)
    for index, each in enumerate(modification.patches):
        where = f"{modification.where}.jsonPatches[{index}]"
        try:
            if each["op"] == "add":
                _make_parents(document, each["path"])
            if each["op"] == "remove" and not _exists(document, each["path"]):
                continue
            document = jsonpatch.apply_patch(document, [dict(each)])
        except (
            jsonpatch.JsonPatchException,
            jsonpointer.JsonPointerException,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise EnvoyTypeError(where, f"{each['op']} {each['path']}: {error}") from None
    return document


def _make_parents(document: Json, path: str) -> None:
    parts = jsonpointer.JsonPointer(path).parts
    at = document
    for part, following in pairwise(parts):
        if not isinstance(at, dict):
            return
        at = at.setdefault(part, [] if following == "-" or following.isdigit() else {})


def _exists(document: Json, path: str) -> bool:
    nothing = object()
    return jsonpointer.resolve_pointer(document, path, nothing) is not nothing


def _resource_matches(modification: Modification, resource: Resource) -> bool:
    match = modification.match
    named: Callable[[str, str], bool] = _same_listener if modification.kind == "listener" else str.__eq__
    if match.name is not None and not named(match.name, resource.name):
        return False
    return _origin_matches(match, resource) and _tags_match(match.tags, resource)


def _listener_matches(modification: Modification, listener: Resource) -> bool:
    match = modification.match
    if match.listener is not None and not _same_listener(match.listener, listener.name):
        return False
    return _origin_matches(match, listener) and _tags_match(match.tags, listener)


def _origin_matches(match: Match, resource: Resource) -> bool:
    return match.origin is None or match.origin == resource.origin


def _tags_match(wanted: Mapping[str, str], resource: Resource) -> bool:
    if not wanted:
        return True
    tags: Mapping[str, Any] = tags_of(resource.value)
    return all(name in tags and value in (tags[name], _ANY_TAG) for name, value in wanted.items())


def _same_listener(wanted: str, name: str) -> bool:
    return wanted == name or any({wanted, name} <= names for names in _SAME_LISTENERS)
