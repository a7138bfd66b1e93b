"""Which way a call goes, and on what ground: the words of /status, of the metrics and of `tbms explain`."""

from enum import StrEnum


class Way(StrEnum):
    """What becomes of a call at an edge."""

    KNOWN = "known"
    """Its Envoy sends it to its node by the map, and does not ask the server."""
    DECIDED = "decided"
    """The server names its nodes; it goes on at once, its body untouched unless it gets another name."""
    RACED = "raced"
    """The server holds it and asks its candidates by their schedule, or copies it to a shadow."""
    GATHERED = "gathered"
    """The server holds it for company, and sends it as part of a batch."""
    REFUSED = "refused"
    """The server answers it with an error."""
    PASSED = "passed"
    """It asks for no inference: it goes on untouched."""


class Ground(StrEnum):
    """Why a call that asks the server goes its way."""

    NO_MAP = "no-map"
    """No map of known calls is kept here."""
    UNMAPPED = "unmapped"
    """It only has to be routed, and Envoy had no map with its model."""
    MORE = "more"
    """It says or asks for more than a map knows: a version, a label, a status; of a model in the map, also a key, or
    another spelling of its name."""
    SESSION = "session"
    """It belongs to a session or a sequence, which keeps to its node."""
    RENAMED = "renamed"
    """It is sent to another name: that of an alias, of a side of a split, or of a label's version."""
    TERMS = "terms"
    """Its node is told how it may share a batch."""
    UNBROKERED = "unbrokered"
    """It was to be raced, and has no body, or has an Envoy that cannot hold it."""
    CANDIDATE = "candidate"
    """It is a candidate of a race of ours, on its way out."""
    HEADERS = "headers"
    """Its own headers ask for a race."""
    SETTINGS = "settings"
    """The models section has a limit, backups, a fallback or a shadow for it."""
    BATCHING = "batching"
    """Its model's calls are gathered at this edge, or it asks for company."""


_WAYS = {Ground.HEADERS: Way.RACED, Ground.SETTINGS: Way.RACED, Ground.BATCHING: Way.GATHERED}


def way_of(ground: Ground) -> Way:
    """The way that calls go on this ground."""
    return _WAYS.get(ground, Way.DECIDED)
