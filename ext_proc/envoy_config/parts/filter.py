"""The edge's and the node's HTTP filter: a matcher (composite) that chooses by headers how ext_proc handles a call.

Three ways:

    open      The headers say enough. The body stays in Envoy. Without the server the call goes on: from an edge to any
              healthy node, from a node's Envoy to its model server.
    closed    The headers say enough, but without the server the call is answered 503 / UNAVAILABLE.
    body      The server needs the body (`stream`, `buffer`). Without the server the call is answered 503 / UNAVAILABLE.

From Envoy 1.40 on the server asks for the body itself, so that `body` is `closed` at an edge and `open` at a node. The
matcher is needed all the same: one filter could not tell which calls may go on without the server. Before that it sends
the server every body that may be needed, those of calls that a node may gather among them (docs/limits-of-envoy.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.xds.type.matcher.v3 import MatcherOnMatch

from ext_proc.contract import (
    CONTROL_PATHS,
    GATHERED_BY,
    GATHERED_PATHS,
    HOP_HEADER,
    MODEL_HEADER,
    RACE_HEADERS,
    SEGMENT_SAFE,
    SESSION_HEADER,
)
from ext_proc.envoy_config.parts.known import is_known, skip
from ext_proc.envoy_config.parts.matching import (
    Predicate,
    all_of,
    any_of,
    chosen,
    execute,
    is_grpc,
    matches,
    none_of,
    one_of_names,
    present,
    starts,
)
from ext_proc.envoy_config.parts.processor import OUTAGE_SECONDS, Branch, ProcessorBranch, external_processor
from ext_proc.envoy_config.parts.text import extension
from ext_proc.envoy_config.parts.versions import BodyAccess, body_access
from ext_proc.envoy_config.settings import FilterSettings, GatheredCalls

# gRPC services whose calls name their model in the message only.
NAMED_IN_BODY = ("/tensorflow.serving.", "/inference.GRPCInferenceService/Model")


@dataclass(frozen=True, slots=True)
class BodyCalls:
    """Calls whose body the server needs, REST calls among them or gRPC only. `timed` as in `ProcessorBranch`.

    Of calls that it needs only to answer them itself (`to_answer`), Envoy 1.36 sends no gRPC: it takes no such answer.
    """

    predicate: Predicate
    rest: bool
    timed: bool = False
    to_answer: bool = False


def edge_filter(settings: FilterSettings, version: str, *, known: bool = False) -> HttpFilter:
    """An edge's HTTP filter for an Envoy of this version. It stands right before the router.

    With `known` it leaves calls alone whose nodes a filter before it has named (`parts.known`).
    Raises ConfigError for a version that is not supported.
    """
    # The clock of a race starts when Envoy gets the call. On another machine the server's clock is another one.
    timed = settings.server_tls is None
    races = any_of(*[present(name) for name in RACE_HEADERS], *_of_models(settings.body_models))
    return _filter(
        version,
        {branch: _edge_branch(branch, settings) for branch in Branch},
        [
            BodyCalls(races, rest=True, timed=timed),
            # May be for one of those models, too: the body will tell.
            BodyCalls(_unnamed(), rest=False, timed=timed and bool(settings.body_models)),
        ],
        # A candidate call of the server's own: named, and never brokered again.
        settled=all_of(present(HOP_HEADER), present(MODEL_HEADER)),
        # Without the server nobody knows the one node that may get it.
        strict=present(SESSION_HEADER),
        server_asks=Branch.CLOSED,
        skipped=is_known() if known else None,
    )


def node_filter(
    version: str, hold_seconds: float, gathered: GatheredCalls | None = None, *, known: bool = False
) -> HttpFilter:
    """A node's HTTP filter for an Envoy of this version: right before the router, so behind what a mesh forbids.

    A call may be held for `hold_seconds`, and the server is told when its reply has ended. With `gathered` the server
    gets the calls that it may batch as a whole, with `known` it hears nothing of those that a filter before has let
    pass (`parts.known`). Raises ConfigError for a version that is not supported.
    """
    branches = {
        Branch.CLOSED: ProcessorBranch(Branch.CLOSED, OUTAGE_SECONDS),
        # The first answer of the server may take as long as a load.
        Branch.OPEN: ProcessorBranch(Branch.OPEN, hold_seconds + OUTAGE_SECONDS, replies=True, to_the_end=True),
        Branch.BUFFER: ProcessorBranch(Branch.BUFFER, hold_seconds + OUTAGE_SECONDS, replies=True, to_the_end=True),
        # No timer runs for a streamed body.
        Branch.STREAM: ProcessorBranch(Branch.STREAM, OUTAGE_SECONDS, replies=True, to_the_end=True),
    }
    body_calls = [BodyCalls(_unnamed(), rest=False)]
    if gathered is not None:
        body_calls.append(BodyCalls(_gathered(gathered), rest=True, to_answer=True))
    return _filter(version, branches, body_calls, server_asks=Branch.OPEN, skipped=is_known() if known else None)


def _edge_branch(branch: Branch, settings: FilterSettings) -> ProcessorBranch:
    # The wait for one answer of the server; a stuck connection is found by keepalive, much earlier. Streamed bodies
    # have no timer, and a buffered call is held by its body's message, for as long as its limit allows.
    timeout = {
        Branch.OPEN: settings.server_wait_seconds,
        Branch.BUFFER: settings.limits.longest_tloc_seconds + OUTAGE_SECONDS,
    }.get(branch, OUTAGE_SECONDS)
    has_body = branch in (Branch.STREAM, Branch.BUFFER)
    return ProcessorBranch(branch, timeout, replies=settings.watch_responses, may_ask=not has_body)


def _filter(
    version: str,
    branches: Mapping[Branch, ProcessorBranch],
    body_calls: Sequence[BodyCalls],
    *,
    server_asks: Branch,
    settled: Predicate | None = None,
    strict: Predicate | None = None,
    skipped: Predicate | None = None,
) -> HttpFilter:
    """The filter of one role: the first predicate that holds decides, and a call for which none does is `open`.

    `settled` are calls that are open whatever else they say, `strict` those that are closed unless they are
    `body_calls`, and of those that are `skipped` the server hears nothing at all. `server_asks` is the branch of
    `body_calls` from Envoy 1.40 on, where the server asks for the body.
    """
    access = body_access(version)
    choices = [(matches(":path", CONTROL_PATHS), branches[Branch.CLOSED])]
    if settled is not None:
        choices.append((settled, branches[Branch.OPEN]))
    for calls in body_calls:
        if access is BodyAccess.BUFFERED and calls.rest:
            rest = all_of(calls.predicate, none_of(is_grpc()))
            choices.append((rest, replace(branches[Branch.BUFFER], timed=calls.timed)))
        if access is BodyAccess.BUFFERED and calls.to_answer:
            continue
        branch = server_asks if access is BodyAccess.OVERRIDE else Branch.STREAM
        if branch is not Branch.OPEN:
            choices.append((calls.predicate, replace(branches[branch], timed=calls.timed)))
    if strict is not None:
        choices.append((strict, branches[Branch.CLOSED]))
    cases = [(predicate, _action(branch, version)) for predicate, branch in choices]
    if skipped is not None:
        cases.insert(0, (skipped, skip()))
    return chosen("tbms", cases, _action(branches[Branch.OPEN], version))


def _action(branch: ProcessorBranch, version: str) -> MatcherOnMatch:
    processor = extension("envoy.filters.http.ext_proc", external_processor(branch, version))
    return execute(branch.kind.value, processor)


def _unnamed() -> Predicate:
    """gRPC calls whose model only the body names."""
    in_body = any_of(*[starts(":path", prefix) for prefix in NAMED_IN_BODY])
    return all_of(is_grpc(), none_of(present(MODEL_HEADER)), in_body)


def _gathered(calls: GatheredCalls) -> Predicate:
    """Inference calls that a node may gather: their edge or their caller wants it, or their model is one of these."""
    inference = matches(":path", GATHERED_PATHS)
    if calls.any_model:
        return inference
    asking = [matches(name, values) for name, values in GATHERED_BY.items()]
    return all_of(inference, any_of(*asking, *_of_models(calls.models)))


def _of_models(models: tuple[str, ...]) -> list[Predicate]:
    """Inference calls of which the headers say that they are for one of these models, in any version."""
    if not models:
        return []
    spelled = (way for name in models for way in (name, quote(name, ""), quote(name, SEGMENT_SAFE)))
    spellings = one_of_names(tuple(dict.fromkeys(spelled)))
    which = r"(/(versions|labels)/[^/:?]*)?"
    return [
        matches(MODEL_HEADER, f"{spellings}{which}"),
        matches(":path", rf"/v[12]/models/{spellings}{which}(:[a-z]+|/infer)(\?.*)?"),
    ]
