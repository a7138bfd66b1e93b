"""Predicates over request headers, for Envoy's generic matchers (`xds.type.matcher.v3`)."""

import re

from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.xds.type.matcher.v3 import (
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicatePredicateList,
    MatcherMatcherListPredicateSinglePredicate,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)

from ext_proc.envoy_config.parts.text import xds_extension

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
