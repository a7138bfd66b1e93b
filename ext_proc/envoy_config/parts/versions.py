"""Envoy versions: what an Envoy of each does with the bodies of calls."""

import re
from enum import Enum, auto

from ext_proc.errors import ConfigError

OLDEST = 36
_VERSION = re.compile(r"v?1\.(\d{1,3})(\.\d{1,3})?", re.ASCII)


class BodyAccess(Enum):
    """How the server gets the bodies that it needs."""

    BUFFERED = auto()  # 1.36: gRPC streamed, for routing; REST buffered, so that it can be answered
    STREAMED = auto()  # 1.37 to 1.39: a matcher decides by headers which bodies are streamed
    OVERRIDE = auto()  # 1.40 and later: the server asks for the body


def body_access(version: str) -> BodyAccess:
    """The way of an Envoy of this version. Raises ConfigError if it is not supported."""
    minor = _minor(version)
    if minor >= 40:
        return BodyAccess.OVERRIDE
    return BodyAccess.STREAMED if minor >= 37 else BodyAccess.BUFFERED


def limits_by_route(version: str) -> bool:
    """Whether a route's limit of a body holds for the filters before the router, too. Raises ConfigError as above."""
    return _minor(version) >= 38


def retries_by_cluster(version: str) -> bool:
    """Whether a cluster says how often what goes to it is tried again. Raises ConfigError as above."""
    return _minor(version) >= 38


def short(version: str) -> str:
    """The version as `1.N`, the way it is told to the server. Raises ConfigError if it is not supported."""
    body_access(version)
    return ".".join(version.removeprefix("v").split(".")[:2])


def _minor(version: str) -> int:
    match = _VERSION.fullmatch(version)
    minor = int(match[1]) if match else 0
    if minor < OLDEST:
        raise ConfigError(f"Envoy version {version!r} is not supported; 1.{OLDEST} and later 1.x are, such as 1.38")
    return minor
