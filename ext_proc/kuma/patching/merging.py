"""Protobuf's merge over canonical JSON, as Kuma merges a patch's `value` into a resource.

Scalars are replaced, messages merged field by field, lists appended, entries of maps replaced. Two kinds of values are
not what one expects: an Any inside a message is replaced as a whole, and one without fields changes nothing but its
type; a Duration is replaced (kumahq/kuma, pkg/util/proto/google_proto.go).
"""

from collections.abc import Mapping
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import CircuitBreakersThresholds
from envoy_data_plane.google import protobuf

from ext_proc.kuma.patching.envoy_types import (
    EnvoyTypeError,
    Field,
    Json,
    MessageType,
    fields_of,
    is_plain,
    message_type,
)

# Lists whose items are merged by a key from Kuma 3.0.1 on (kumahq/kuma pull request 18207): one threshold a priority.
_KEYED: Mapping[MessageType, str] = {CircuitBreakersThresholds: "priority"}


def merged(message: MessageType, onto: Json, patch: Json, *, keyed: bool, where: str = "") -> dict[str, Json]:
    """`patch` merged into `onto`, both of this type and canonical. `keyed`: see `_KEYED`.

    Raises EnvoyTypeError where Kuma would make nonsense: an Any without fields that changes the type of another.
    """
    known = fields_of(message)
    found = dict(onto)
    for name, value in patch.items():
        field = known[name]
        if group := field.meta.group:
            for other in known.values():
                if other.meta.group == group and other.json != name:
                    found.pop(other.json, None)
        found[name] = _field(field, found.get(name), value, keyed, f"{where}.{name}" if where else name)
    return found


def merged_any(onto: Json, patch: Json, *, keyed: bool, where: str = "") -> dict[str, Json]:
    """An Any unpacked, merged, and packed again, as Kuma does with the configuration of a filter.

    Raises EnvoyTypeError if the two are of different types.
    """
    if onto["@type"] != patch["@type"]:
        raise EnvoyTypeError(f"{where}.@type", f"the filter that is there is a {onto['@type']}, not a {patch['@type']}")
    url, message = onto["@type"], message_type(onto["@type"])
    return {"@type": url, **merged(message, _fields(onto), _fields(patch), keyed=keyed, where=where)}


def _field(field: Field, onto: Any, patch: Any, keyed: bool, where: str) -> Any:
    message = field.message
    if field.is_map:
        return {**(onto or {}), **patch}
    if field.meta.repeated:
        key = _KEYED.get(message) if keyed and message is not None else None
        return [*(onto or []), *patch] if key is None else _by_key(message, key, onto or [], patch)  # type: ignore[arg-type]
    if message is None or onto is None:
        return patch
    if message is protobuf.Any:
        return _replaced(onto, patch, where)
    if message is protobuf.Struct or (message is protobuf.Value and isinstance(onto, dict) and isinstance(patch, dict)):
        return {**onto, **patch}
    return merged(message, onto, patch, keyed=keyed, where=where) if is_plain(message) else patch


def _replaced(onto: Any, patch: Any, where: str) -> Any:
    if len(patch) > 1:
        return patch
    if onto["@type"] != patch["@type"]:
        raise EnvoyTypeError(where, f"without a field it would keep the bytes of the {onto['@type']} that is there")
    return onto


def _by_key(message: MessageType, key: str, onto: list[Any], patch: list[Any]) -> list[Any]:
    found = list(onto)
    for item in patch:
        place = next((at for at, each in enumerate(found) if each.get(key) == item.get(key)), None)
        if place is None:
            found.append(item)
        else:
            found[place] = merged(message, found[place], item, keyed=True)
    return found


def _fields(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name != "@type"}
