"""The edge's filter: the conversation with the server, and the choice by headers of how it is held.

Three ways, chosen by a matcher (composite) in front of the external processor:

    open      The headers say enough. The body stays in Envoy. Without the server the call goes on to any
              healthy node.
    closed    The headers say enough, but without the server the call is answered 503 / UNAVAILABLE.
    body      The server needs the body. Without the server the call is answered 503 / UNAVAILABLE.

From Envoy 1.40 on the server asks for the body itself, so that `body` is `closed` there. The matcher is
needed all the same: one filter could not tell which calls may go on without the server.
"""

from enum import Enum
from urllib.parse import quote

from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeBodySendMode as BodyMode
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ext_proc.contract import HOP_HEADER, MODEL_HEADER, RACE_HEADERS
from ext_proc.envoy_config.matching import Predicate, all_of, any_of, matches, none_of, one_of_names, present, starts
from ext_proc.envoy_config.processor import CONTROL, NAMED_IN_BODY, OUTAGE_SECONDS, ProcessorBranch, chosen_by_headers
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.envoy_config.versions import BodyAccess, body_access


class Branch(Enum):
    """A branch of the matcher; the value is its name in the configuration and in Envoy's statistics."""

    OPEN = "open"
    CLOSED = "closed"
    STREAM = "stream"
    BUFFER = "buffer"


def ext_proc_filter(settings: EnvoySettings, version: str) -> HttpFilter:
    """The HTTP filter for an Envoy of this version. It stands right before the router."""
    talk = body_access(version)
    stream = Branch.CLOSED if talk is BodyAccess.OVERRIDE else Branch.STREAM
    buffer = Branch.BUFFER if talk is BodyAccess.BUFFERED else stream
    is_grpc = starts("content-type", "application/grpc")
    named = present(MODEL_HEADER)
    races = any_of(*[present(name) for name in RACE_HEADERS], *_with_backups(settings.body_models))
    in_body = any_of(*[starts(":path", prefix) for prefix in NAMED_IN_BODY])
    # The clock of a race starts when Envoy gets the call. On another machine the server's clock is another one.
    timed = settings.server_tls is None
    # The first that holds decides.
    choices = [
        (matches(":path", CONTROL), _talk(Branch.CLOSED, settings)),
        # A candidate call of the server's own: named, and never brokered again.
        (all_of(present(HOP_HEADER), named), _talk(Branch.OPEN, settings)),
    ]
    if buffer is not stream:
        choices.append((all_of(races, none_of(is_grpc)), _talk(buffer, settings, timed)))
    choices.append((races, _talk(stream, settings, timed)))
    # May be one of those, too: its body will tell.
    unnamed = all_of(is_grpc, none_of(named), in_body)
    choices.append((unnamed, _talk(stream, settings, timed and bool(settings.body_models))))
    return chosen_by_headers(choices, _talk(Branch.OPEN, settings), version)


def _with_backups(models: tuple[str, ...]) -> list[Predicate]:
    if not models:
        return []
    spellings = one_of_names(tuple(dict.fromkeys(spelled for name in models for spelled in (name, quote(name, "")))))
    return [
        matches(MODEL_HEADER, spellings),
        matches(":path", rf"/v[12]/models/{spellings}(/(versions|labels)/[^/:?]*)?(:[a-z]+|/infer)(\?.*)?"),
    ]


def _talk(way: Branch, settings: EnvoySettings, timed: bool = False) -> ProcessorBranch:
    body = {Branch.STREAM: BodyMode.FULL_DUPLEX_STREAMED, Branch.BUFFER: BodyMode.BUFFERED}.get(way, BodyMode.NONE)
    return ProcessorBranch(
        way.value,
        timeout=_message_timeout(way, settings),
        body=body,
        may_pass=way is Branch.OPEN,
        replies=settings.watch_responses,
        may_ask=body is BodyMode.NONE,
        timed=timed,
    )


def _message_timeout(way: Branch, settings: EnvoySettings) -> float:
    """Seconds for one answer of the server; a stuck connection is found by keepalive, much earlier."""
    if way is Branch.OPEN:
        return settings.patience_seconds
    # A buffered call is held by its body's message, for as long as its limit allows. Streamed bodies have no timer.
    return settings.limits.longest_tloc_seconds + OUTAGE_SECONDS if way is Branch.BUFFER else OUTAGE_SECONDS
