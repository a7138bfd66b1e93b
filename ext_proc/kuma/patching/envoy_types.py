"""Envoy's messages as protobuf JSON, read strictly: an unknown field is an error that says where it stands.

Kuma drops unknown fields of a patch in silence, so that a misspelt one changes nothing and nobody says so. What comes
out is canonical: names in camel case, durations as protobuf writes them, defaults left out. Two messages are equal if
their canonical forms are.
"""

import base64
import binascii
import importlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import betterproto2
from betterproto2 import FieldMetadata, ProtoClassMetadata
from envoy_data_plane.google import protobuf
from envoy_data_plane.message_pool import default_message_pool

from ext_proc.errors import TbmsError

Json = Any
MessageType = type[betterproto2.Message]

_PREFIX = "type.googleapis.com/"
_TYPE_NAME = re.compile(r"(?P<package>[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*)(\.[A-Z]\w*)+", re.ASCII)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_KINDS_32, _KINDS_64 = set(betterproto2.INT_32_TYPES), set(betterproto2.INT_64_TYPES)
_UNSIGNED = {betterproto2.TYPE_UINT32, betterproto2.TYPE_UINT64, betterproto2.TYPE_FIXED32, betterproto2.TYPE_FIXED64}
# The first number that fits, and the first beyond.
_RANGES = {
    **dict.fromkeys(_KINDS_32, (-(1 << 31), 1 << 31)),
    **dict.fromkeys(_KINDS_64, (-(1 << 63), 1 << 63)),
    **dict.fromkeys(_KINDS_32 & _UNSIGNED, (0, 1 << 32)),
    **dict.fromkeys(_KINDS_64 & _UNSIGNED, (0, 1 << 64)),
}
_DEFAULTS: dict[str, Json] = {
    **dict.fromkeys(_RANGES, 0),
    **dict.fromkeys(betterproto2.INT_64_TYPES, "0"),
    betterproto2.TYPE_BOOL: False,
    betterproto2.TYPE_STRING: "",
    betterproto2.TYPE_BYTES: "",
    betterproto2.TYPE_FLOAT: 0.0,
    betterproto2.TYPE_DOUBLE: 0.0,
}


class EnvoyTypeError(TbmsError):
    """A value is not what Envoy's type says. `where` is its path, `what` what is wrong with it."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.where = where
        self.what = what


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its name in JSON, and what it holds.

    `message` is the type of its value, or of each value of a list or map; None for a scalar. `default` is left out of
    canonical JSON where the field has no presence of its own.
    """

    json: str
    meta: FieldMetadata
    value: FieldMetadata
    holds: type

    @property
    def is_map(self) -> bool:
        """Whether it is a map; its keys are strings in JSON."""
        return self.meta.map_meta is not None

    @property
    def message(self) -> MessageType | None:
        """The message type of its value or values, None for scalars."""
        if self.value.proto_type != betterproto2.TYPE_MESSAGE:
            return None
        found: MessageType = self.value.unwrap() if self.value.unwrap else self.holds
        return found


@cache
def fields_of(message: MessageType) -> Mapping[str, Field]:
    """The fields of a message type by both names that protobuf JSON takes: camel case, and as in the .proto file."""
    about: ProtoClassMetadata = message._betterproto  # type: ignore[arg-type]  # a property of the class
    found = {}
    for name, meta in about.meta_by_field_name.items():
        holds = about.cls_by_field[f"{name}.value" if meta.map_meta else name]
        value = meta.map_meta[1] if meta.map_meta else meta
        proto = name.rstrip("_")
        field = Field(_camel(proto), meta, value, holds)
        found[proto] = found[field.json] = field
    return found


def message_type(url: str, where: str = "") -> MessageType:
    """The message type that a type URL names. Raises EnvoyTypeError for one that Envoy's API does not have."""
    known: dict[str, MessageType] = default_message_pool.url_to_type
    if url not in known and url.startswith(_PREFIX) and (match := _TYPE_NAME.fullmatch(url.removeprefix(_PREFIX))):
        with suppress(ImportError):
            importlib.import_module(f"envoy_data_plane.{match['package']}")
    if url not in known:
        raise EnvoyTypeError(where, f"{url!r} is no type of Envoy's API")
    return known[url]


def canonical(message: MessageType, value: Json, where: str = "") -> dict[str, Json]:
    """A message as canonical JSON. Raises EnvoyTypeError for the first value that its type does not take."""
    if not isinstance(value, Mapping):
        raise EnvoyTypeError(where, f"a mapping is expected ({message.__name__}), not {_shown(value)}")
    known = fields_of(message)
    found: dict[str, Json] = {}
    groups: dict[str, str] = {}
    for key, item in value.items():
        at = f"{where}.{key}" if where else str(key)
        field = known.get(key)
        if field is None:
            raise EnvoyTypeError(at, f"{message.__name__} has no such field{_meant(str(key), known)}")
        if item is None:
            continue
        if field.json in found:
            raise EnvoyTypeError(at, "the field is there twice, in two spellings")
        if group := field.meta.group:
            if group in groups:
                raise EnvoyTypeError(at, f"only one of {groups[group]} and {field.json} can be set")
            groups[group] = field.json
        read = _read(field, item, at)
        if _says_something(field, read):
            found[field.json] = read
    return found


def canonical_any(value: Json, where: str = "") -> dict[str, Json]:
    """A `google.protobuf.Any` as canonical JSON: `@type`, and the fields of that type (or `value`)."""
    if not isinstance(value, Mapping):
        raise EnvoyTypeError(where, f"a mapping with '@type' is expected, not {_shown(value)}")
    if not isinstance(url := value.get("@type"), str):
        raise EnvoyTypeError(where, "'@type' is missing")
    rest = {key: item for key, item in value.items() if key != "@type"}
    message = message_type(url, f"{where}.@type")
    if message in _WELL_KNOWN:
        if set(rest) != {"value"}:
            raise EnvoyTypeError(where, "a type of protobuf's own stands in 'value'")
        return {"@type": url, "value": _WELL_KNOWN[message](rest["value"], f"{where}.value")}
    return {"@type": url, **canonical(message, rest, where)}


def _read(field: Field, item: Json, where: str) -> Json:
    if field.is_map:
        if not isinstance(item, Mapping):
            raise EnvoyTypeError(where, f"a mapping is expected, not {_shown(item)}")
        return {_key(key): _one(field, each, f"{where}[{key}]") for key, each in item.items()}
    if field.meta.repeated:
        if not isinstance(item, list):
            raise EnvoyTypeError(where, f"a list is expected, not {_shown(item)}")
        return [_one(field, each, f"{where}[{index}]") for index, each in enumerate(item)]
    return _one(field, item, where)


def _one(field: Field, item: Json, where: str) -> Json:
    if (message := field.message) is not None:
        if message in _WELL_KNOWN:
            return _WELL_KNOWN[message](item, where)
        return canonical(message, item, where)
    kind = field.value.proto_type
    if kind == betterproto2.TYPE_ENUM:
        return _enum(field.holds, item, where)
    return _scalar(kind, item, where)


def _says_something(field: Field, value: Json) -> bool:
    if field.is_map or field.meta.repeated:
        return bool(value)
    if field.meta.group or field.meta.optional or field.message is not None:
        return True
    if field.value.proto_type == betterproto2.TYPE_ENUM:
        return bool(value != _enum(field.holds, 0, ""))
    return bool(value != _DEFAULTS[field.value.proto_type])


def _scalar(kind: str, item: Json, where: str) -> Json:
    if kind == betterproto2.TYPE_BOOL:
        return _expected(item, bool, "true or false", where)
    if kind == betterproto2.TYPE_STRING:
        return _expected(item, str, "a text", where)
    if kind == betterproto2.TYPE_BYTES:
        return _bytes(item, where)
    if kind in (betterproto2.TYPE_FLOAT, betterproto2.TYPE_DOUBLE):
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise EnvoyTypeError(where, f"a number is expected, not {_shown(item)}")
        return float(item)
    return _integer(kind, item, where)


def _integer(kind: str, item: Json, where: str) -> Json:
    if isinstance(item, str) and _INTEGER.fullmatch(item):
        item = int(item)
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if isinstance(item, bool) or not isinstance(item, int):
        raise EnvoyTypeError(where, f"a whole number is expected, not {_shown(item)}")
    least, beyond = _RANGES[kind]
    if not least <= item < beyond:
        raise EnvoyTypeError(where, f"{item} does not fit into {kind}")
    return str(item) if kind in betterproto2.INT_64_TYPES else item


def _enum(holds: Any, item: Json, where: str) -> str | int:
    names: dict[str, int] = {each.proto_name or each.name: each.value for each in holds}
    if isinstance(item, int) and not isinstance(item, bool):
        return next((name for name, number in names.items() if number == item), item)
    if item not in names:
        raise EnvoyTypeError(where, f"{_shown(item)} is none of {', '.join(names)}{_meant(str(item), names)}")
    return str(item)


def _duration(item: Json, where: str) -> str:
    match = _DURATION.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        raise EnvoyTypeError(where, f"a duration such as 0.25s is expected, not {_shown(item)}")
    sign, whole, part = match[1], int(match[2]), (match[3] or "").rstrip("0")
    # Protobuf writes 0, 3, 6 or 9 digits.
    part = part.ljust(-(-len(part) // 3) * 3, "0")
    return f"{sign}{whole}.{part}s" if part else f"{sign}{whole}s"


def _bytes(item: Json, where: str) -> str:
    try:
        return base64.b64encode(base64.b64decode(_expected(item, str, "base64", where), validate=True)).decode()
    except binascii.Error:
        raise EnvoyTypeError(where, f"base64 is expected, not {_shown(item)}") from None


def _struct(item: Json, where: str) -> Json:
    return {str(key): _value(each, f"{where}.{key}") for key, each in _expected(item, dict, "a mapping", where).items()}


def _list(item: Json, where: str) -> Json:
    each = enumerate(_expected(item, list, "a list", where))
    return [_value(value, f"{where}[{index}]") for index, value in each]


def _value(item: Json, where: str) -> Json:
    if isinstance(item, dict):
        return _struct(item, where)
    if isinstance(item, list):
        return _list(item, where)
    if isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    return item


def _expected(item: Json, kind: type, what: str, where: str) -> Any:
    if not isinstance(item, kind):
        raise EnvoyTypeError(where, f"{what} is expected, not {_shown(item)}")
    return item


def _wrapped(kind: str) -> Callable[[Json, str], Json]:
    return lambda item, where: _scalar(kind, item, where)


def _text(item: Json, where: str) -> Json:
    return _expected(item, str, "a text", where)


# Messages that protobuf JSON writes in a way of their own.
_WELL_KNOWN: dict[MessageType, Callable[[Json, str], Json]] = {
    protobuf.Any: canonical_any,
    protobuf.Duration: _duration,
    protobuf.Timestamp: _text,
    protobuf.Struct: _struct,
    protobuf.ListValue: _list,
    protobuf.Value: _value,
    protobuf.BoolValue: _wrapped(betterproto2.TYPE_BOOL),
    protobuf.StringValue: _wrapped(betterproto2.TYPE_STRING),
    protobuf.BytesValue: _wrapped(betterproto2.TYPE_BYTES),
    protobuf.Int32Value: _wrapped(betterproto2.TYPE_INT32),
    protobuf.Int64Value: _wrapped(betterproto2.TYPE_INT64),
    protobuf.UInt32Value: _wrapped(betterproto2.TYPE_UINT32),
    protobuf.UInt64Value: _wrapped(betterproto2.TYPE_UINT64),
    protobuf.FloatValue: _wrapped(betterproto2.TYPE_FLOAT),
    protobuf.DoubleValue: _wrapped(betterproto2.TYPE_DOUBLE),
}


def is_plain(message: MessageType) -> bool:
    """Whether its JSON is a mapping of its fields, which most messages' is."""
    return message not in _WELL_KNOWN


def _camel(name: str) -> str:
    return re.sub(r"_+([a-zA-Z0-9])", lambda match: match[1].upper(), name)


def _key(key: Json) -> str:
    return {True: "true", False: "false"}[key] if isinstance(key, bool) else str(key)


def _meant(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; {near[0]} is meant, perhaps" if near else ""


def _shown(item: Json) -> str:
    text = repr(item)
    return text if len(text) <= 60 else f"{text[:57]}..."
