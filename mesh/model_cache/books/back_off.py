"""The back-off: which keys failed lately, and when each may be tried again."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from mesh.model_cache.errors import CacheError

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of one key. `attempts` in a row have failed; no try before `until` (seconds, monotonic)."""

    kind: type[CacheError]
    message: str
    cause: str
    attempts: int
    until: float

    def error(self) -> CacheError:
        """The failure as a new error: one exception object raised to many callers would pile up their tracebacks."""
        return self.kind(self.message, self.cause)


class BackOff(Generic[K]):
    """Failures with an exponential back-off: `first` seconds, doubled each time, never more than `most`.

    A failure is remembered for `most` seconds after its back-off, so that the next one in that time waits for longer.
    At most `limit` failures are kept; the oldest go first.
    """

    def __init__(self, first: float, most: float, limit: int = 10_000) -> None:
        self._first = first
        self._most = most
        self._limit = limit
        self._failures: OrderedDict[K, Failure] = OrderedDict()

    def record(self, key: K, error: CacheError, now: float) -> Failure:
        """The key failed, once more if it did so lately."""
        before = self._failures.pop(key, None)
        attempts = 1 if before is None or now >= before.until + self._most else before.attempts + 1
        # 2 ** 60 is beyond any `most`, and larger exponents would not be floats for ever.
        delay = min(self._first * 2.0 ** min(attempts - 1, 60), self._most)
        failure = Failure(type(error), error.message, error.cause, attempts, now + delay)
        self._failures[key] = failure
        if len(self._failures) > self._limit:
            self._failures.popitem(last=False)
        return failure

    def check(self, key: K, now: float) -> Failure | None:
        """The failure for which the key must not be tried now, or None."""
        failure = self._failures.get(key)
        return failure if failure is not None and now < failure.until else None

    def last(self, key: K) -> Failure | None:
        """The last failure of the key, whether or not its back-off is over."""
        return self._failures.get(key)

    def active(self, now: float) -> Iterator[tuple[K, Failure]]:
        """Every key that must not be tried now, with its failure."""
        return ((key, failure) for key, failure in self._failures.items() if now < failure.until)

    def clear(self, key: K) -> None:
        """The key went well, or an operator wants another try now."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._failures)
