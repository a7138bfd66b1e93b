"""One item of `appendModifications` of a MeshProxyPatch, read as Kuma's validator reads it, and more strictly.

Kuma takes unknown fields of a `value`; here they are errors (see `envoy_types`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Filter, Listener
from envoy_data_plane.envoy.config.route.v3 import VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ext_proc.kuma.patching.envoy_types import EnvoyTypeError, Json, MessageType, canonical

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOURCES = ("Add", "Remove", "Patch")
_FILTERS = ("AddFirst", "AddLast", "AddBefore", "AddAfter", "Remove", "Patch")
# What can be modified: its Envoy type, the operations, and the keys of a match.
_KINDS: Mapping[str, tuple[MessageType, tuple[str, ...], tuple[str, ...]]] = {
    "cluster": (Cluster, _RESOURCES, ("origin", "name")),
    "listener": (Listener, _RESOURCES, ("origin", "name", "tags")),
    "networkFilter": (Filter, _FILTERS, ("origin", "name", "listenerName", "listenerTags")),
    "httpFilter": (HttpFilter, _FILTERS, ("origin", "name", "listenerName", "listenerTags")),
    "virtualHost": (VirtualHost, _RESOURCES, ("origin", "name", "routeConfigurationName")),
}
_PATCH_OPERATIONS = ("add", "remove", "replace", "move", "copy")


@dataclass(frozen=True, slots=True)
class Match:
    """What a modification applies to; None and an empty mapping match everything."""

    origin: str | None = None
    name: str | None = None
    listener: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    routes: str | None = None

    def __str__(self) -> str:
        named = {
            "origin": self.origin,
            "name": self.name,
            "listener": self.listener,
            "routeConfigurationName": self.routes,
            "tags": ", ".join(f"{key}={value}" for key, value in self.tags.items()),
        }
        return ", ".join(f"{name} {value}" for name, value in named.items() if value) or "everything"


@dataclass(frozen=True, slots=True)
class Modification:
    """One change: of a `kind` of thing, by `value` (canonical, None for Remove) or by `patches` (RFC 6902).

    `where` is its path in the policy.
    """

    kind: str
    operation: str
    match: Match
    value: dict[str, Json] | None
    patches: tuple[Mapping[str, Any], ...]
    where: str

    @property
    def message(self) -> MessageType:
        """The Envoy type of what it changes."""
        return _KINDS[self.kind][0]


def read_modification(item: Json, where: str) -> Modification:
    """Reads one item. Raises EnvoyTypeError for what Kuma refuses, and for a `value` that is not its Envoy type."""
    kinds = [kind for kind in _KINDS if isinstance(item, Mapping) and item.get(kind) is not None]
    if len(kinds) != 1 or len(item) != 1:
        raise EnvoyTypeError(where, f"exactly one of {', '.join(_KINDS)} is expected")
    (kind,) = kinds
    body, where = item[kind], f"{where}.{kind}"
    message, operations, keys = _KINDS[kind]
    operation, match = body.get("operation"), body.get("match") or {}
    if operation not in operations:
        raise EnvoyTypeError(f"{where}.operation", f"{operation!r} is none of {', '.join(operations)}")
    if unknown := next((key for key in match if key not in keys), None):
        raise EnvoyTypeError(f"{where}.match.{unknown}", f"a {kind} is matched by {', '.join(keys)}")
    _check_match(kind, operation, body, match, where)
    value, patches = _change(message, operation, body, where)
    found = Match(
        origin=match.get("origin"),
        name=match.get("name"),
        listener=match.get("listenerName"),
        tags=match.get("listenerTags") or match.get("tags") or {},
        routes=match.get("routeConfigurationName"),
    )
    return Modification(kind, operation, found, value, patches, where)


def _check_match(kind: str, operation: str, body: Mapping[str, Any], match: Mapping[str, Any], where: str) -> None:
    if kind in ("cluster", "listener") and operation == "Add" and body.get("match") is not None:
        raise EnvoyTypeError(f"{where}.match", "nothing is matched where something is added")
    if kind == "virtualHost" and body.get("match") is None:
        raise EnvoyTypeError(f"{where}.match", "it is required, be it empty")
    if kind == "virtualHost" and operation == "Add" and match.get("name") is not None:
        raise EnvoyTypeError(f"{where}.match.name", "nothing is matched by name where something is added")
    if kind.endswith("Filter") and operation in ("AddBefore", "AddAfter", "Patch") and match.get("name") is None:
        raise EnvoyTypeError(f"{where}.match.name", f"{operation} needs the name of a filter")


def _change(
    message: MessageType, operation: str, body: Mapping[str, Any], where: str
) -> tuple[dict[str, Json] | None, tuple[Mapping[str, Any], ...]]:
    text, patches = body.get("value"), tuple(body.get("jsonPatches") or ())
    if operation == "Remove":
        if text is not None or patches:
            raise EnvoyTypeError(where, "Remove takes neither value nor jsonPatches")
        return None, ()
    if operation == "Patch" and (text is None) == (not patches):
        raise EnvoyTypeError(where, "Patch takes exactly one of value and jsonPatches")
    if operation != "Patch" and (text is None or patches):
        raise EnvoyTypeError(where, f"{operation} takes a value, and no jsonPatches")
    if text is None:
        for index, each in enumerate(patches):
            _check_patch(each, f"{where}.jsonPatches[{index}]")
        return None, patches
    return canonical(message, _yaml(text, f"{where}.value"), f"{where}.value"), ()


def _check_patch(patch: Json, where: str) -> None:
    if not isinstance(patch, Mapping) or patch.get("op") not in _PATCH_OPERATIONS:
        raise EnvoyTypeError(f"{where}.op", f"one of {', '.join(_PATCH_OPERATIONS)} is expected")
    if not isinstance(patch.get("path"), str) or not patch["path"].startswith("/"):
        raise EnvoyTypeError(f"{where}.path", "a path that starts with / is expected")
    if patch["op"] in ("add", "replace") and "value" not in patch:
        raise EnvoyTypeError(f"{where}.value", f"{patch['op']} needs one")
    if patch["op"] in ("move", "copy") and not isinstance(patch.get("from"), str):
        raise EnvoyTypeError(f"{where}.from", f"{patch['op']} needs one")


def _yaml(text: Json, where: str) -> Json:
    if not isinstance(text, str):
        raise EnvoyTypeError(where, "YAML in a text is expected, so a block that starts with |")
    try:
        return yaml.load(text, _LOADER)  # noqa: S506
    except yaml.YAMLError as error:
        raise EnvoyTypeError(where, f"no YAML: {' '.join(str(error).split())}") from None
