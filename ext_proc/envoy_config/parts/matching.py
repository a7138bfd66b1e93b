"""Predicates over request headers, for Envoy's generic matchers (`xds.type.matcher.v3`), and filters that obey them."""

import re
from collections.abc import Sequence

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite, ExecuteFilterAction
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.matching.common_inputs.network.v3 import (
    DynamicMetadataInput,
    DynamicMetadataInputPathSegment,
)
from envoy_data_plane.envoy.extensions.matching.input_matchers.metadata.v3 import Metadata
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput, ValueMatcher
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicatePredicateList,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)

from ext_proc.envoy_config.parts.text import extension, xds_extension

Predicate = MatcherMatcherListPredicate


def _header(name: str, match: StringMatcher) -> Predicate:
    wanted = xds_extension("header", HttpRequestHeaderMatchInput(header_name=name))
    return Predicate(single_predicate=MatcherMatcherListPredicateSinglePredicate(input=wanted, value_match=match))


def present(name: str) -> Predicate:
    """The request has the header, whatever its value."""
    return matches(name, ".*")


def equals(name: str, value: str) -> Predicate:
    """The header's value is this."""
    return _header(name, StringMatcher(exact=value))


def starts(name: str, prefix: str) -> Predicate:
    """The header's value starts with this."""
    return _header(name, StringMatcher(prefix=prefix))


def matches(name: str, regex: str) -> Predicate:
    """The header's whole value matches this RE2 expression."""
    return _header(name, StringMatcher(safe_regex=RegexMatcher(google_re2=RegexMatcherGoogleRe2(), regex=regex)))


def has_metadata(namespace: str, key: str) -> Predicate:
    """A filter before has set this dynamic metadata. Nobody but filters can: it is no header."""
    wanted = DynamicMetadataInput(filter=namespace, path=[DynamicMetadataInputPathSegment(key=key)])
    present_match = Metadata(value=ValueMatcher(present_match=True))
    return Predicate(
        single_predicate=MatcherMatcherListPredicateSinglePredicate(
            input=xds_extension("metadata", wanted),
            custom_match=xds_extension("envoy.matching.matchers.metadata_matcher", present_match),
        )
    )


def any_of(*predicates: Predicate) -> Predicate:
    """At least one predicate holds."""
    if len(predicates) == 1:
        return predicates[0]
    return Predicate(or_matcher=MatcherMatcherListPredicatePredicateList(predicate=list(predicates)))


def all_of(*predicates: Predicate) -> Predicate:
    """Every predicate holds."""
    if len(predicates) == 1:
        return predicates[0]
    return Predicate(and_matcher=MatcherMatcherListPredicatePredicateList(predicate=list(predicates)))


def none_of(predicate: Predicate) -> Predicate:
    """The predicate does not hold."""
    return Predicate(not_matcher=predicate)


def one_of_names(names: tuple[str, ...]) -> str:
    """An RE2 expression for any of these texts."""
    return "(" + "|".join(re.escape(name) for name in names) + ")"


def is_grpc() -> Predicate:
    """As `ext_proc.wire.content_type` has it: grpc-web is another framing."""
    plain, tails = "application/grpc", ("+", ";")
    return any_of(equals("content-type", plain), *[starts("content-type", f"{plain}{tail}") for tail in tails])


def chosen(
    name: str, choices: Sequence[tuple[Predicate, MatcherOnMatch]], otherwise: MatcherOnMatch | None
) -> HttpFilter:
    """A filter of that name (composite) that is, for each call, what the first predicate that holds leads to."""
    fields = [MatcherMatcherListFieldMatcher(predicate=predicate, on_match=found) for predicate, found in choices]
    # Envoy refuses a list without matchers.
    matcher = Matcher(matcher_list=MatcherMatcherList(matchers=fields) if fields else None, on_no_match=otherwise)
    composite = extension("envoy.filters.http.composite", Composite())
    return HttpFilter(
        name=name, typed_config=Any.pack(ExtensionWithMatcher(xds_matcher=matcher, extension_config=composite))
    )


def execute(name: str, inner: TypedExtensionConfig) -> MatcherOnMatch:
    """What a predicate leads to: this filter; `name` stands in the configuration and in Envoy's statistics."""
    return MatcherOnMatch(action=xds_extension(name, ExecuteFilterAction(typed_config=inner)))


def when(name: str, predicate: Predicate, inner: TypedExtensionConfig) -> HttpFilter:
    """The filter `inner`, for the calls for which the predicate holds."""
    return chosen(name, [(predicate, execute(name, inner))], None)
