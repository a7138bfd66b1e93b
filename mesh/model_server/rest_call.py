"""What the two REST APIs share: a request as they see it, and an answer."""

from dataclasses import dataclass, field

from multidict import CIMultiDictProxy


@dataclass(frozen=True, slots=True)
class RestCall:
    """One HTTP request. `target` is as sent: path and query, not decoded; so is `body`, with its content coding.

    `max_bytes` bounds what a body may unpack to.
    """

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes
    max_bytes: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """One HTTP response, without a Content-Type where that is "".

    `compressible`: whether the client's Accept-Encoding may be obeyed.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    compressible: bool = False
