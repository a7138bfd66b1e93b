"""The batch-time curve of a model: how long a batch of so many rows takes, from batches that were timed."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ext_proc.errors import TbmsError

MAX_ROWS = 65_536
"""Most rows of a batch: the bound of `max_rows` in the configuration."""


@dataclass(frozen=True, slots=True)
class Point:
    """Batches of one size. `deviation` is the median distance from the median; both in seconds."""

    rows: int
    seconds: float
    deviation: float = 0.0
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """`constant + slope * rows` seconds; `error` is the largest share by which a point is away from it."""

    constant: float
    slope: float
    error: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in order of their rows. Between two of them time runs straight; below the first one it stays."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise TbmsError("A batch-time curve has at least one size.")
        sizes = [point.rows for point in self.points]
        if sizes != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= MAX_ROWS:
            raise TbmsError(f"The sizes of a batch-time curve are different numbers from 1 to {MAX_ROWS}, in order.")
        if not all(0 < point.seconds < float("inf") for point in self.points):
            raise TbmsError("The times of a batch-time curve are over 0.")

    @property
    def max_rows(self) -> int:
        """The largest size that is known."""
        return self.points[-1].rows

    def seconds(self, rows: float) -> float:
        """The time of a batch of so many rows, `max_rows` at most; averages need not be whole."""
        if rows > self.max_rows:
            raise ValueError(f"{rows} rows are beyond the curve")
        after = bisect_left(self.points, rows, key=lambda point: point.rows)
        high = self.points[after]
        if after == 0 or high.rows == rows:
            return high.seconds
        low = self.points[after - 1]
        return low.seconds + (high.seconds - low.seconds) * (rows - low.rows) / (high.rows - low.rows)

    def up_to(self, max_rows: int) -> "Curve":
        """The curve of batches of at most so many rows; they have to be within it."""
        kept = tuple(point for point in self.points if point.rows < max_rows)
        end = next((point for point in self.points if point.rows == max_rows), None)
        return Curve((*kept, end or Point(max_rows, self.seconds(max_rows), 0.0, 0)))

    def line(self) -> Line:
        """The line by least squares: what the scheduler predicts batch times with."""
        xs, ys = [point.rows for point in self.points], [point.seconds for point in self.points]
        mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
        spread = sum((x - mean_x) ** 2 for x in xs)
        shared = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
        slope = max(0.0, shared / spread) if spread else 0.0
        constant = mean_y - slope * mean_x
        if constant < 0:
            constant, slope = 0.0, sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
        error = max(abs(constant + slope * x - y) / y for x, y in zip(xs, ys, strict=True))
        return Line(constant, slope, error)


def straight(constant: float, slope: float, max_rows: int) -> Curve:
    """The curve `constant + slope * rows` seconds, for up to `max_rows`, of the sizes that would be timed."""
    return Curve(tuple(Point(rows, constant + slope * rows) for rows in sizes_up_to(max_rows)))


def sizes_up_to(max_rows: int) -> list[int]:
    """The sizes that are timed, and among which a plan chooses: powers of two, and the largest one."""
    sizes = [1 << power for power in range(max_rows.bit_length()) if 1 << power < max_rows]
    return [*sizes, max_rows]


def order(sizes: Sequence[int], repeats: int) -> list[int]:
    """The sizes as they are timed: up and down in turn, so that what drifts meets all of them alike."""
    return [size for turn in range(repeats) for size in (sizes if turn % 2 == 0 else reversed(sizes))]


def curve_of(timed: Iterable[tuple[int, float]]) -> Curve:
    """The curve of batches that took so many seconds, by their rows: the median of each size."""
    by_rows: dict[int, list[float]] = {}
    for rows, seconds in timed:
        by_rows.setdefault(rows, []).append(seconds)
    return Curve(tuple(_point(rows, by_rows[rows]) for rows in sorted(by_rows)))


def _point(rows: int, times: Sequence[float]) -> Point:
    middle = median(times)
    return Point(rows, middle, median(abs(time - middle) for time in times), len(times))
