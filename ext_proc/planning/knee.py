"""The knee of a curve: where the price of more begins to rise faster than what is gained."""

from collections.abc import Sequence


def knee(gained: Sequence[float], paid: Sequence[float]) -> int | None:
    """The place of the knee of a rising curve that bends upwards, in points that are sorted by what is gained.

    Kneedle without smoothing (Satopää, Albrecht, Irwin and Raghavan: Finding a "Kneedle" in a Haystack, ICDCS Workshops
    2011): both axes are brought to 0..1, and the knee is the point furthest below the diagonal, which is the chord from
    the first point to the last. None where there is no such point: fewer than three, or a line.
    """
    if len(gained) < 3 or gained[-1] <= gained[0] or max(paid) <= min(paid):
        return None
    width, least, height = gained[-1] - gained[0], min(paid), max(paid) - min(paid)
    below = [(x - gained[0]) / width - (y - least) / height for x, y in zip(gained, paid, strict=True)]
    best = max(range(len(below)), key=below.__getitem__)
    return best if below[best] > 1e-9 and 0 < best < len(below) - 1 else None
