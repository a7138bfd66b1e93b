"""Envoy's generic matchers (`xds.type.matcher.v3`) and the filters that they lead to, written as protobuf by hand.

The map has thousands of entries and is written anew whenever it changes; envoy-data-plane's typed messages would take
seconds for it, and most of a second to be imported. The field numbers are those of the .proto files of xDS and Envoy;
tests read everything back through the typed messages.
"""

from collections.abc import Iterable

from ext_proc.wire.protobuf.fields import len_field, varint_field

_TYPES = "type.googleapis.com/"
_HEADER_INPUT = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
_ACTION = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
_SET_METADATA = "envoy.extensions.filters.http.set_metadata.v3.Config"
_COMPOSITE = "envoy.extensions.filters.http.composite.v3.Composite"
_WITH_MATCHER = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
_EXTENSION = "envoy.config.core.v3.TypedExtensionConfig"
_CONSISTENT_HASHING = "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing"


def text(number: int, value: str) -> bytes:
    """A string field."""
    return len_field(number, value.encode())


def any_of_type(name: str, message: bytes) -> bytes:
    """google.protobuf.Any."""
    return text(1, _TYPES + name) + len_field(2, message)


def extension(name: str, type_name: str, message: bytes) -> bytes:
    """TypedExtensionConfig, xDS's and Envoy's alike."""
    return text(1, name) + len_field(2, any_of_type(type_name, message))


def header_input(name: str) -> bytes:
    """The value of a request header, as the input of a matcher."""
    return extension("header", _HEADER_INPUT, text(1, name))


def equals(name: str, value: str) -> bytes:
    """A predicate: the header's value is this."""
    return _single(name, text(1, value))


def starts(name: str, prefix: str) -> bytes:
    """A predicate: the header's value starts with this."""
    return _single(name, text(2, prefix))


def matches(name: str, regex: str) -> bytes:
    """A predicate: the header's whole value matches this RE2 expression."""
    return _single(name, len_field(5, len_field(1, b"") + text(2, regex)))


def present(name: str) -> bytes:
    """A predicate: the request has the header."""
    return matches(name, ".*")


def hashes_below(name: str, share: int, of: int) -> bytes:
    """A predicate that holds for `share` in `of` of the header's values, by their hash; for none where it is absent."""
    # The matcher holds where hash % modulo >= threshold.
    hashing = varint_field(1, of - share) + varint_field(2, of)
    custom = extension("envoy.matching.input_matchers.consistent_hashing", _CONSISTENT_HASHING, hashing)
    return len_field(1, len_field(1, header_input(name)) + len_field(3, custom))


def any_of(predicates: Iterable[bytes]) -> bytes:
    """A predicate: at least one of two or more holds."""
    return len_field(2, b"".join(len_field(1, each) for each in predicates))


def all_of(predicates: Iterable[bytes]) -> bytes:
    """A predicate: every one of two or more holds."""
    return len_field(3, b"".join(len_field(1, each) for each in predicates))


def none_of(predicate: bytes) -> bytes:
    """A predicate: that one does not hold."""
    return len_field(4, predicate)


def to_matcher(matcher: bytes) -> bytes:
    """OnMatch: another matcher is asked."""
    return len_field(1, matcher)


def to_metadata(namespace: str, entries: Iterable[tuple[str, str]]) -> bytes:
    """OnMatch: dynamic metadata is set (keys and values), by Envoy's set_metadata filter."""
    # Entries of Struct.fields: Value.string_value.
    fields = b"".join(len_field(1, text(1, key) + len_field(2, text(3, value))) for key, value in entries)
    metadata = len_field(3, text(1, namespace) + varint_field(2, 1) + len_field(3, fields))
    action = len_field(1, extension("set_metadata", _SET_METADATA, metadata))
    return len_field(2, extension("known", _ACTION, action))


def first_match(cases: Iterable[tuple[bytes, bytes]], otherwise: bytes = b"") -> bytes:
    """A matcher: what the first predicate that holds leads to (pairs of predicate and OnMatch), else `otherwise`."""
    pairs = (len_field(1, len_field(1, predicate) + len_field(2, on_match)) for predicate, on_match in cases)
    listed = len_field(1, b"".join(pairs))
    return listed + len_field(3, otherwise) if otherwise else listed


def exact_case(value: str, on_match: bytes) -> bytes:
    """One case of `exact_match`."""
    return len_field(1, text(1, value) + len_field(2, on_match))


def exact_match(header: str, cases: Iterable[bytes]) -> bytes:
    """A matcher: looks the header's value up among these cases (`exact_case`), at least one."""
    return len_field(2, len_field(1, header_input(header)) + len_field(2, b"".join(cases)))


def discovery_response(name: str, version: str, matcher: bytes) -> bytes:
    """The content of the file: a DiscoveryResponse with one filter of that name, composite by this matcher.

    Without a matcher (empty) the filter does nothing. The version is a part of the filter: Envoy passes over a file
    that is no other filter than before.
    """
    composite = len_field(2, extension(f"{name} {version}", _COMPOSITE, b""))
    with_matcher = composite + len_field(3, matcher)
    resource = any_of_type(_EXTENSION, extension(name, _WITH_MATCHER, with_matcher))
    return text(1, version) + len_field(2, resource)


def _single(name: str, match: bytes) -> bytes:
    """A predicate: the header's value has this StringMatcher."""
    return len_field(1, len_field(1, header_input(name)) + len_field(2, match))
