"""What the two REST APIs share: a request as they see it, and an answer."""

from dataclasses import dataclass, field

from multidict import CIMultiDictProxy


@dataclass(frozen=True, slots=True)
class RestCall:
    """One HTTP request. `path` is as sent (not decoded, no query); `body` has its content encoding undone."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """One HTTP response. `compressible`: whether the client's Accept-Encoding may be obeyed."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    compressible: bool = False
