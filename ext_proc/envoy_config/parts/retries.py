"""Retries: when Envoy sends a call again, and so to another node where there is one.

    unsent          The call provably never reached a node.
    unprocessed     That, or the node says that another one should be asked.
    lost            That, or the connection was lost after the call was sent: for calls that only read, and only where
                    asking twice does no harm (`repeat_lost`).

An edge's Envoy tells nodes which try it is (`include_request_attempt_count` of its virtual host); see `replies`.
"""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    RouteMatch,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import ELSEWHERE_HEADER, MAX_RETRIES_HEADER, RETRIABLE_HEADERS_HEADER, RETRY_ON_HEADER
from ext_proc.envoy_config.parts.headers import written
from ext_proc.envoy_config.parts.matching import Predicate, all_of, any_of, is_grpc, matches, none_of, starts, when
from ext_proc.envoy_config.parts.text import seconds

# A second node is tried if the first refused, and so on; the server names as many as there are replicas.
TRIES = 3
# Provably not processed: no connection, refused or reset before it was sent.
UNSENT = "connect-failure,refused-stream,reset-before-request"
# Or the node says so.
UNPROCESSED = f"{UNSENT},retriable-headers"


def _matches(regex: str) -> RouteMatch:
    return RouteMatch(safe_regex=RegexMatcher(regex=regex))


# Calls that only read, so that asking twice does no harm; neither streams nor SessionRun. Envoy takes short expressions
# only, hence more than one.
GRPC_READS = (
    RouteMatch(prefix="/tensorflow.serving.PredictionService/"),
    _matches(r"/inference\.GRPCInferenceService/Model(Infer|Ready|Metadata|Config)"),
)
REST_READS = (
    RouteMatch(prefix="/v1/models/"),
    _matches(r"/v2/models/.+/(infer|ready|config|stats)(\?.*)?"),
)

_NODE_SAYS = HeaderMatcher(name=ELSEWHERE_HEADER, present_match=True)


def retry_unsent() -> RetryPolicy:
    """For a node: to its one model server once more. Whether another node is asked is the edge's to decide."""
    return _retries(UNSENT)


def retry_unprocessed() -> RetryPolicy:
    """For an edge, any call: another node, if the first provably did not process it, or says so."""
    return _retries(UNPROCESSED, _NODE_SAYS)


def retry_lost() -> RetryPolicy:
    """For an edge, calls that only read (`GRPC_READS`, `REST_READS`).

    Another node, if the first did not process the call or died under it.
    """
    return _retries(f"{UNPROCESSED},reset", _NODE_SAYS)


def retry_reads(reads: Sequence[RouteMatch]) -> RetryPolicy:
    """`retry_lost` for the calls that only read, and no retries at all for others.

    For an edge whose routes are a mesh's, which have one policy for all calls.
    """
    policy = retry_lost()
    policy.retriable_request_headers = [HeaderMatcher(name=":path", string_match=_text(match)) for match in reads]
    return policy


def repeats_lost(beside: str = "") -> HttpFilter:
    """The filter that makes of `retry_unprocessed` what `retry_lost` says, for the calls that only read.

    It costs every call something, and leaves the others the policy that they have. `beside` is what such a call may be
    asked again for besides, where a header says that, too.
    """
    grpc, rest = any_of(*map(_path, GRPC_READS)), any_of(*map(_path, REST_READS))
    reads = any_of(all_of(is_grpc(), grpc), all_of(none_of(is_grpc()), rest))
    return when("tbms-repeat-lost", reads, written({RETRY_ON_HEADER: f"{beside},reset" if beside else "reset"}))


def retries_without_routes(repeat_lost: bool) -> list[HttpFilter]:
    """The same policies by request headers alone, for an Envoy whose routes cannot be reached: a mesh's gateway."""
    said = {
        RETRY_ON_HEADER: UNPROCESSED,
        RETRIABLE_HEADERS_HEADER: ELSEWHERE_HEADER,
        MAX_RETRIES_HEADER: str(TRIES),
    }
    found = written(said)
    filters = [HttpFilter(name="tbms-retries", typed_config=found.typed_config)]
    return [*filters, repeats_lost(UNPROCESSED)] if repeat_lost else filters


def _path(match: RouteMatch) -> Predicate:
    if match.safe_regex is not None:
        return matches(":path", match.safe_regex.regex)
    return starts(":path", match.prefix or "")


def _text(match: RouteMatch) -> StringMatcher:
    if match.safe_regex is not None:
        return StringMatcher(safe_regex=match.safe_regex)
    return StringMatcher(prefix=match.prefix)


def _retries(on: str, *answers: HeaderMatcher) -> RetryPolicy:
    return RetryPolicy(
        retry_on=on,
        retriable_headers=list(answers),
        num_retries=TRIES,
        # The next try goes to another node, so there is nothing to wait for.
        retry_back_off=RetryPolicyRetryBackOff(base_interval=seconds(0.001), max_interval=seconds(0.01)),
        # For the fallback, which picks by itself once the nodes that the server named are used up.
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=Any.pack(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=5,
    )
